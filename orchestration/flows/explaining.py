"""When each copy of a scan may go, and what is missing for that; nothing is deleted, planned or written down."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestration.config import Settings
from orchestration.errors import DeletionUnproven, OrchestrationError
from orchestration.flows.inspecting import Inspection
from orchestration.flows.proving import due_at, proof_of
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.variables import QUICK
from orchestration.flows.work import Work
from orchestration.ledger import Ledger
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.times import iso


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What becomes of one copy.

    `due` is the time (seconds since the epoch) before which it is kept in any case; None if it is not to be deleted.
    Operators may have set a later one, if `missing` says that Prefect, which knows it, does not answer.
    """

    copy: CopyRecord
    due: float | None
    missing: str
    """What speaks against its deletion, apart from the time; empty if nothing does."""
    witnesses: tuple[str, ...] = ()
    """The places of the verified copies that were found."""

    @property
    def aside(self) -> bool:
        """Whether it lies in quarantine, and not only its deletion from there has begun."""
        return self.copy.state is CopyState.QUARANTINED

    def document(self) -> Document:
        witnesses: list[Json] = [*self.witnesses]
        return {
            "dataset": self.copy.dataset,
            "endpoint": self.copy.endpoint,
            "path": self.copy.path.text,
            "role": self.copy.role.value,
            "state": self.copy.state.value,
            "lies_at": self.copy.lies_at.text,
            "quarantined_at": iso(self.copy.quarantined_at),
            "verified_at": iso(self.copy.verified_at),
            "due": iso(self.due),
            "missing": self.missing,
            "witnesses": witnesses,
        }


def explain(settings: Settings, ledger: Ledger, services: Services, scan: Scan) -> Sequence[Outlook]:
    """Of every copy that was not deleted, by looking at it and at its witnesses as a deletion would."""
    work = bench(settings, ledger, services)
    return list(_outlooks(work, ledger.copies.of_scan(scan.id)))


def bench(settings: Settings, ledger: Ledger, services: Services) -> Work:
    """For a person who looks, without a run."""
    run_id = str(uuid.uuid4())
    suspension = Suspension(ledger, run_id, None, settings.waiting.inline_seconds)
    return Work(settings, ledger, services, run_id, logging.getLogger(__name__), suspension)


def _outlooks(work: Work, copies: Sequence[CopyRecord]) -> Iterator[Outlook]:
    """What has not answered once is not waited for again: a person waits for the page."""
    patience = QUICK
    for copy in copies:
        if copy.state is CopyState.DELETED:
            continue
        try:
            yield _outlook(work, copy, patience=patience)
        except OrchestrationError as silence:
            patience = 0.0
            yield Outlook(copy=copy, due=copy.delete_after, missing=f"no answer ({silence.what})")


def _outlook(work: Work, copy: CopyRecord, *, patience: float) -> Outlook:
    due = due_at(work, copy, patience=patience)
    try:
        proof = proof_of(work, copy, inspection=Inspection(work, patience=patience, computes=False))
    except DeletionUnproven as refusal:
        return Outlook(copy=copy, due=due, missing=refusal.what)
    found = tuple(f"{each.copy.endpoint}:{each.copy.path}" for each in proof.witnesses)
    return Outlook(copy=copy, due=due, missing="", witnesses=found)
