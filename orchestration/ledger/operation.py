"""One effect on the outside world: what is asked, where it takes data, and how it stands."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestration import errors
from orchestration.errors import InvalidInput, OrchestrationError
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json, Request
from orchestration.policy import Place

R_co = TypeVar("R_co", bound=Request, covariant=True)


class OperationState(enum.StrEnum):
    """::

    planned ──> running ──> succeeded ──> expired      (its copy was deleted on purpose: may be done again)
       │           ├──────> failed                     (certain; another attempt may be made)
       └───────────┴──────> cancelled
    """

    PLANNED = "planned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def open(self) -> bool:
        """Something may still be happening out there."""
        return self in {OperationState.PLANNED, OperationState.RUNNING}


@dataclass(frozen=True, kw_only=True)
class Operation(Generic[R_co]):
    """What is to be done. Equal scan, version of its file, step and request: the same operation, done once."""

    scan: Scan
    step: str
    """Readable and unique within the scan: ``move to data832``."""
    request: R_co
    destination: Place
    deadline: float
    """Seconds from the beginning of an attempt after which it is given up and cancelled.

    One that a crash interrupted before anything was submitted begins anew when it is taken up again.
    """
    others: tuple[Scan, ...] = ()
    """Further scans of which it carries something, in one task with the first: it is permitted only if it is for each.

    They do not make another operation of it: its step and its request tell it from those with other scans.
    """
    sole_since: float | None = None
    """If set, no two of its step go on at its destination at once, whatever their scans and requests; nor is it begun
    where another was done after that time (seconds since the epoch), of which whoever planned it could not know.
    """

    @property
    def key(self) -> str:
        parts = [self.scan.id, self.scan.fingerprint, self.step, self.request.document()]
        try:
            return hashlib.sha256(canonical(parts).encode()).hexdigest()[:32]
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the request has no JSON form: {error}", where=self.step) from error


@dataclass(frozen=True, kw_only=True)
class OperationRecord:
    """An operation as the ledger has it. Times are seconds since the epoch."""

    key: str
    scan_id: str
    step: str
    service: str
    destination: str
    request: Document
    run_id: str | None
    state: OperationState
    attempt: int
    token: str | None
    handle: str | None
    owner: str | None
    lease_until: float | None
    cancel_requested: bool
    progress: Document | None
    evidence: Document | None
    error: OrchestrationError | None
    created_at: float
    began_at: float
    submitted_at: float | None
    finished_at: float | None
    cleared_at: float | None = None
    """When what its jobs had left at their site was removed."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> OperationRecord:
        values = dict(row)
        values["state"] = OperationState(values["state"])
        values["error"] = None if values["error"] is None else error_from(values["error"])
        return cls(**values)

    @property
    def seconds(self) -> float | None:
        """From the beginning of the last attempt to its end; None while it is open."""
        return None if self.finished_at is None else self.finished_at - self.began_at


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of an operation's history; never changed once written."""

    operation_key: str
    attempt: int
    at: float
    event: str
    detail: Document | None


def canonical(value: Json | object) -> str:
    """JSON with one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def error_document(error: OrchestrationError) -> Document:
    """An error as the ledger keeps it: its type, its parts, and what its class adds to them (`cause`, ...)."""
    added = {name: value for name, value in vars(error).items() if value and isinstance(value, str | int | float)}
    return {
        **added,
        "type": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "next_step": error.next_step,
    }


def error_from(document: Document) -> OrchestrationError:
    """The typed error back from the ledger; a type that this version does not have any more is an OperationFailed."""
    kind = getattr(errors, str(document.get("type")), None)
    if not (isinstance(kind, type) and issubclass(kind, OrchestrationError)):
        kind = errors.OperationFailed
    parts = {name: str(document.get(name, "")) for name in ("what", "where", "next_step")}
    error: OrchestrationError = kind(parts["what"], where=parts["where"], next_step=parts["next_step"])
    vars(error).update({name: value for name, value in document.items() if name != "type" and name not in parts})
    return error
