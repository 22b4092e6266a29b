"""What the control of the sandbox can turn at the stand-in for the Superfacility API; kept across restarts."""

from __future__ import annotations

import enum
import threading
from dataclasses import asdict, dataclass, field, replace
from typing import cast

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.store import Store

_KIND = "sf-knobs"
_KEY = "all"


class Maintenance(enum.StrEnum):
    """What the services in maintenance answer; what NERSC's do is not documented."""

    NONE = ""
    UNAVAILABLE = "unavailable"
    """HTTP 503."""
    ERROR = "error"
    """HTTP 200 with status ERROR."""
    NULL = "null"
    """HTTP 200 with status ERROR and null where rows belong."""


class Service(enum.StrEnum):
    """What of the API can be in maintenance."""

    COMPUTE = "compute"
    UTILITIES = "utilities"
    """Files and commands on the machine; those on the data transfer nodes go on."""


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """Times are in seconds.

    `submit_delay` lies between taking a submission and giving it to the batch system; those that wait follow it as it
    is turned. A job is shown by no query for `hidden` after its submission, and not by sacct until `sacct_lag` after it
    left squeue (0: at once, and before); or, where `sacct_stale`, until then as it was at its submission. While `held`,
    no job begins. The next `failing_tasks` tasks fail with `task_error`, before they do anything, or afterwards where
    `failing_late`. `forgotten` jobs are shown by no query any more, though they may run. `hours_left` overrides what is
    left of projects, by their names.
    """

    submit_delay: float = 0.0
    hidden: float = 0.0
    sacct_lag: float = 0.0
    sacct_stale: bool = False
    token_lifetime: int | None = None
    held: bool = False
    maintenance: Maintenance = Maintenance.NONE
    maintenance_text: str = ""
    maintenance_services: tuple[Service, ...] = (Service.COMPUTE,)
    failing_tasks: int = 0
    failing_late: bool = False
    task_error: str = ""
    forgotten: tuple[str, ...] = ()
    hours_left: dict[str, float] = field(default_factory=dict)

    def document(self) -> Document:
        return cast(
            Document, asdict(self) | {name: list(getattr(self, name)) for name in ("forgotten", "maintenance_services")}
        )

    def turned(self, changes: Document) -> Knobs:
        """With the knobs that are named in `changes`. Raises: ValueError on one that does not exist."""
        known = self.document()
        if unknown := sorted(changes.keys() - known.keys()):
            raise ValueError(f"no such knob: {', '.join(unknown)}; there are {', '.join(known)}")
        found = known | changes
        lifetime = found["token_lifetime"]
        hours = documents.object_at(found, "hours_left")
        return Knobs(
            submit_delay=documents.number(found, "submit_delay"),
            hidden=documents.number(found, "hidden"),
            sacct_lag=documents.number(found, "sacct_lag"),
            sacct_stale=documents.flag(found, "sacct_stale"),
            token_lifetime=int(lifetime) if isinstance(lifetime, int | float) else None,
            held=documents.flag(found, "held"),
            maintenance=Maintenance(documents.text(found, "maintenance")),
            maintenance_text=documents.text(found, "maintenance_text"),
            maintenance_services=tuple(Service(name) for name in documents.strings(found, "maintenance_services")),
            failing_tasks=documents.whole(found, "failing_tasks"),
            failing_late=documents.flag(found, "failing_late"),
            task_error=documents.text(found, "task_error"),
            forgotten=tuple(documents.strings(found, "forgotten")),
            hours_left={name: documents.number(hours, name) for name in hours},
        )


class Board:
    """The knobs as they are now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._knobs = Knobs().turned(store.get(_KIND, _KEY) or {})

    @property
    def now(self) -> Knobs:
        return self._knobs

    def turn(self, changes: Document) -> Knobs:
        """Raises: ValueError on a knob that does not exist, or cannot be turned so."""
        with self._lock:
            self._keep(self._knobs.turned(changes))
            return self._knobs

    def forget(self, job: str) -> Knobs:
        with self._lock:
            self._keep(replace(self._knobs, forgotten=(*self._knobs.forgotten, job)))
            return self._knobs

    def take_failure(self) -> Knobs | None:
        """The knobs that make this task fail, once; None where it is to go well."""
        with self._lock:
            found = self._knobs
            if found.failing_tasks <= 0:
                return None
            self._keep(replace(found, failing_tasks=found.failing_tasks - 1))
            return found

    def reset(self) -> None:
        with self._lock:
            self._knobs = Knobs()

    def _keep(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._store.put(_KIND, _KEY, knobs.document())
