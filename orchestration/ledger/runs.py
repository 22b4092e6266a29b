"""Runs of flows: which process is carrying which scan, so that one that died is noticed and resumed."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, select, update

from orchestration.errors import OrchestrationError, UnknownName
from orchestration.ledger.database import Database
from orchestration.ledger.operation import error_document, error_from
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import Document
from orchestration.ledger.tables import runs

LEASE_SECONDS = 60.0


class RunState(enum.StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    """Suspended: no process, no lease and no slot of Prefect. A watcher waits in its place."""
    DEAD = "dead"
    """Its process is gone without a word; another run carries on."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    id: str
    scan_id: str | None
    flow: str
    parameters: Document
    owner: str
    lease_until: float
    state: RunState
    error: OrchestrationError | None
    started_at: float
    finished_at: float | None
    waiting_for: Mapping[str, float] | None
    """The operations whose end makes it go on, each with the time at which its deadline passes.

    Kept while it goes on: how those ended, good or bad, is what it waited for.
    """

    @classmethod
    def from_row(cls, row: RowMapping) -> RunRecord:
        values = dict(row)
        values["state"] = RunState(values["state"])
        values["error"] = None if values["error"] is None else error_from(values["error"])
        return cls(**values)

    def dead(self, now: float) -> bool:
        """No live process stands behind it."""
        return self.state is RunState.RUNNING and (self.lease_until < now or Owner.parse(self.owner).certainly_dead())


class Runs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self, *, run_id: str, flow: str, parameters: Document, owner: Owner, scan_id: str | None = None
    ) -> frozenset[str]:
        """A process begins (or, after a retry, begins again) to run a flow.

        Returns the operations that it had been waiting for, if it is resumed.
        """
        values = {
            "flow": flow,
            "parameters": parameters,
            "owner": str(owner),
            "lease_until": self._database.now() + LEASE_SECONDS,
            "state": RunState.RUNNING,
            "error": None,
            "finished_at": None,
        }
        if scan_id is not None:
            values["scan_id"] = scan_id
        afresh = {"started_at": self._database.now(), "waiting_for": None}
        with self._database.write("runs") as connection:
            where = runs.c.id == run_id
            known = connection.execute(select(runs.c.state, runs.c.waiting_for).where(where)).one_or_none()
            if known is None:
                connection.execute(runs.insert().values(id=run_id, **values, **afresh))
                return frozenset()
            resumed = RunState(known.state) in {RunState.WAITING, RunState.RUNNING} and bool(known.waiting_for)
            connection.execute(update(runs).where(where).values(**values, **({} if resumed else afresh)))
            return frozenset(known.waiting_for if resumed else ())

    def carries(self, run_id: str, scan_id: str) -> None:
        """The run has found out which scan it is about."""
        self._change(run_id, scan_id=scan_id)

    def renew(self, run_id: str) -> None:
        with self._database.write("runs") as connection:
            connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.state == RunState.RUNNING)
                .values(lease_until=self._database.now() + LEASE_SECONDS)
            )

    def wait(self, run_id: str, waiting_for: Mapping[str, float]) -> bool:
        """Its process is about to end, and a watcher to wait for these operations; False if it has ended already."""
        with self._database.write("runs") as connection:
            changed = connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.state == RunState.RUNNING)
                .values(state=RunState.WAITING, waiting_for=dict(waiting_for))
            )
        return changed.rowcount == 1

    def settle(self, run_id: str, state: RunState, error: OrchestrationError | None = None) -> bool:
        """`finish` a run that waits; False, and no change, if a process has taken it up or it has ended meanwhile."""
        values = self._ended(state, error)
        with self._database.write("runs") as connection:
            changed = connection.execute(
                update(runs).where(runs.c.id == run_id, runs.c.state == RunState.WAITING).values(**values)
            )
        return changed.rowcount == 1

    def lost(self, run_id: str) -> None:
        """A run that waits was taken up by a process that died before it could say so: it is dead, not waiting."""
        with self._database.write("runs") as connection:
            connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.state == RunState.WAITING)
                .values(state=RunState.RUNNING, lease_until=0.0)
            )

    def finish(self, run_id: str, state: RunState, error: OrchestrationError | None = None) -> None:
        self._change(run_id, **self._ended(state, error))

    def _ended(self, state: RunState, error: OrchestrationError | None) -> dict[str, object]:
        return {
            "state": state,
            "error": None if error is None else error_document(error),
            "finished_at": self._database.now(),
        }

    def _change(self, run_id: str, **values: object) -> None:
        with self._database.write("runs") as connection:
            if connection.execute(update(runs).where(runs.c.id == run_id).values(**values)).rowcount == 0:
                raise UnknownName(f"no run {run_id} in the ledger")

    def get(self, run_id: str) -> RunRecord | None:
        found = self._select(runs.c.id == run_id)
        return found[0] if found else None

    def of_scan(self, scan_id: str) -> Sequence[RunRecord]:
        return self._select(runs.c.scan_id == scan_id)

    def dead(self) -> Sequence[RunRecord]:
        """Those that nobody runs any more although they never ended."""
        now = self._database.now()
        return [run for run in self._select(runs.c.state == RunState.RUNNING) if run.dead(now)]

    def waiting(self) -> Sequence[RunRecord]:
        """Those that are suspended, or resumed and not yet taken up by a process."""
        return self._select(runs.c.state == RunState.WAITING)

    def _select(self, where: object) -> Sequence[RunRecord]:
        query = select(runs).where(where).order_by(runs.c.started_at)  # type: ignore[arg-type]
        with self._database.read() as connection:
            return [RunRecord.from_row(row) for row in connection.execute(query).mappings()]
