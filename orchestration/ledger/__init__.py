"""What was asked of the outside world, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from orchestration.config import Settings
from orchestration.ledger.arrivals import Arrivals
from orchestration.ledger.audit import Audit
from orchestration.ledger.batches import Batches
from orchestration.ledger.copies import Copies
from orchestration.ledger.database import Database
from orchestration.ledger.decisions import Decisions
from orchestration.ledger.due import Due
from orchestration.ledger.holds import Holds
from orchestration.ledger.inventory import Inventory
from orchestration.ledger.manifests import Manifests
from orchestration.ledger.notices import Notices
from orchestration.ledger.operations import DEFAULT_LEASE_SECONDS, Operations
from orchestration.ledger.permission import Rules
from orchestration.ledger.quarantine import Quarantine
from orchestration.ledger.queues import Queues
from orchestration.ledger.results import Results
from orchestration.ledger.runs import Runs
from orchestration.ledger.scan import Scans
from orchestration.ledger.watchers import Watchers

__all__ = ["Ledger"]


class Ledger:
    """The ledger at a database URL.

    Raises:
        LedgerOutdated: if the database has another schema version than this code.
        LedgerError: if it cannot be reached.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_seconds: float = DEFAULT_LEASE_SECONDS,
        clock: Callable[[], float] = time.time,
        rules: Rules | None = None,
    ) -> None:
        """`rules` are those of the beamlines; `of` takes them from the settings, and is what all but tests use."""
        self._database = Database(url, clock=clock)
        self.scans = Scans(self._database)
        self.runs = Runs(self._database)
        self.operations = Operations(self._database, lease_seconds=lease_seconds, rules=rules)
        self.copies = Copies(self._database, self.operations)
        self.arrivals = Arrivals(self._database, self.operations)
        self.due = Due(self._database)
        self.quarantine = Quarantine(self._database, self.operations)
        self.manifests = Manifests(self._database)
        self.results = Results(self._database)
        self.watchers = Watchers(self._database)
        self.decisions = Decisions(self._database)
        self.queues = Queues(self._database)
        self.batches = Batches(self._database)
        self.holds = Holds(self._database)
        self.audit = Audit(self._database)
        self.inventory = Inventory(self._database)
        self.notices = Notices(self._database)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """That of the settings, which asks what their beamlines demand before anything is done."""
        return cls(settings.ledger.url, lease_seconds=settings.ledger.lease_seconds, rules=settings.rules)

    @property
    def url(self) -> str:
        return self._database.url

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._database.now()

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
