"""Runs of flows: which process is carrying which scan, so that one that died is noticed and resumed."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, select, update

from orchestration.errors import Cancelled, OrchestrationError, UnknownName
from orchestration.ledger.database import Database
from orchestration.ledger.operation import error_document, error_from
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import Document
from orchestration.ledger.tables import runs
from orchestration.ledger.waiting import Awaited

LEASE_SECONDS = 60.0


class RunState(enum.StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WAITING = "waiting"
    """Suspended: no process, no lease and no slot of Prefect. A watcher waits in its place."""
    CANCELLING = "cancelling"
    """Somebody cancelled it: it begins nothing more, and is cancelled once all that it had going on has ended."""
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
    waiting_for: Mapping[str, Awaited]
    """The operations for which it was suspended, by key. Kept while it goes on: how those ended, good or bad, is what
    it waited for.
    """

    @classmethod
    def from_row(cls, row: RowMapping) -> RunRecord:
        values = dict(row)
        values["state"] = RunState(values["state"])
        values["error"] = None if values["error"] is None else error_from(values["error"])
        values["waiting_for"] = {key: Awaited.parse(each) for key, each in (values["waiting_for"] or {}).items()}
        return cls(**values)

    @property
    def awaits(self) -> Mapping[str, Awaited]:
        """The operations whose end makes it go on."""
        return {key: each for key, each in self.waiting_for.items() if not each.over}

    def dead(self, now: float) -> bool:
        """It ought to have a process, or to have ended, and no process stands behind it."""
        gone = self.lease_until < now or Owner.parse(self.owner).certainly_dead()
        return self.state in _WITH_A_PROCESS and gone


_WITH_A_PROCESS = (RunState.RUNNING, RunState.CANCELLING)


class Runs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self, *, run_id: str, flow: str, parameters: Document, owner: Owner, scan_id: str | None = None
    ) -> frozenset[str]:
        """A process begins (or, after a retry, begins again) to run a flow. One that is being cancelled stays so.

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
            state = RunState(known.state)
            resumed = state in {RunState.WAITING, *_WITH_A_PROCESS} and bool(known.waiting_for)
            if state is RunState.CANCELLING:
                values["state"] = state
            connection.execute(update(runs).where(where).values(**values, **({} if resumed else afresh)))
            return frozenset(known.waiting_for if resumed else ())

    def unheard(self, *, run_id: str, flow: str, parameters: Document, started_at: float) -> bool:
        """A run whose process never came to `begin`: it is written down as one that died. False if it did come."""
        nobody = Owner(host="?", pid=0, started="?", nonce="?")
        with self._database.write("runs") as connection:
            if connection.execute(select(runs.c.id).where(runs.c.id == run_id)).one_or_none() is not None:
                return False
            connection.execute(
                runs.insert().values(
                    id=run_id,
                    flow=flow,
                    parameters=parameters,
                    owner=str(nobody),
                    lease_until=0.0,
                    state=RunState.RUNNING,
                    started_at=started_at,
                )
            )
            return True

    def carries(self, run_id: str, scan_id: str) -> None:
        """The run has found out which scan it is about."""
        self._change(run_id, scan_id=scan_id)

    def renew(self, run_id: str) -> None:
        with self._database.write("runs") as connection:
            connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.state.in_(_WITH_A_PROCESS))
                .values(lease_until=self._database.now() + LEASE_SECONDS)
            )

    def wait(self, run_id: str, waiting_for: Mapping[str, Awaited]) -> bool:
        """Its process is about to end, and a watcher to wait for these operations; False if it is not to go on."""
        documents = {key: each.document() for key, each in waiting_for.items()}
        return self._move(run_id, RunState.RUNNING, state=RunState.WAITING, waiting_for=documents)

    def lost(self, run_id: str) -> None:
        """A run that waits was taken up by a process that died before it could say so: it is dead, not waiting."""
        self._move(run_id, RunState.WAITING, state=RunState.RUNNING, lease_until=0.0)

    def forgotten(self, run_id: str, error: OrchestrationError) -> bool:
        """A run that waits will never go on; False if a process has taken it up, or it has ended, meanwhile."""
        return self._move(run_id, RunState.WAITING, **self._ended(RunState.DEAD, error))

    def request_cancel(self, run_id: str) -> bool:
        """From here on it begins nothing more; False if it has ended, or was asked for this before."""
        asleep = {"lease_until": 0.0}
        with self._database.write("runs") as connection:
            return any(
                _moved(connection, run_id, state, state=RunState.CANCELLING, **more)
                for state, more in ((RunState.RUNNING, {}), (RunState.WAITING, asleep))
            )

    def cancelled(self, run_id: str, error: OrchestrationError) -> bool:
        """All that a run had going on, which is being cancelled, has ended; False if it is not being cancelled."""
        return self._move(run_id, RunState.CANCELLING, **self._ended(RunState.CANCELLED, error))

    def not_cancelled_yet(self, run_id: str, why: OrchestrationError) -> None:
        """What keeps a run that is being cancelled from having ended."""
        self._move(run_id, RunState.CANCELLING, error=error_document(why))

    def demand_wanted(self, run_id: str) -> None:
        """Raises Cancelled if somebody cancelled the run."""
        with self._database.read() as connection:
            demand_wanted(connection, run_id)

    def finish(self, run_id: str, state: RunState, error: OrchestrationError | None = None) -> None:
        self._change(run_id, **self._ended(state, error))

    def _ended(self, state: RunState, error: OrchestrationError | None) -> dict[str, object]:
        return {
            "state": state,
            "error": None if error is None else error_document(error),
            "finished_at": self._database.now(),
        }

    def _move(self, run_id: str, from_state: RunState, **values: object) -> bool:
        """Change a run that is in this state; whether it was."""
        with self._database.write("runs") as connection:
            return _moved(connection, run_id, from_state, **values)

    def _change(self, run_id: str, **values: object) -> None:
        with self._database.write("runs") as connection:
            if connection.execute(update(runs).where(runs.c.id == run_id).values(**values)).rowcount == 0:
                raise UnknownName(f"no run {run_id} in the ledger")

    def get(self, run_id: str) -> RunRecord | None:
        found = self._select(runs.c.id == run_id)
        return found[0] if found else None

    def of_scan(self, scan_id: str) -> Sequence[RunRecord]:
        return self._select(runs.c.scan_id == scan_id)

    def successors(self, run: RunRecord) -> Sequence[RunRecord]:
        """Those that began later with the same flow and parameters on the same scan."""
        same = [] if run.scan_id is None else self.of_scan(run.scan_id)
        return [
            other
            for other in same
            if other.started_at > run.started_at and (other.flow, other.parameters) == (run.flow, run.parameters)
        ]

    def dead(self) -> Sequence[RunRecord]:
        """Those that nobody runs any more although they never ended."""
        now = self._database.now()
        return [run for run in self._select(runs.c.state.in_(_WITH_A_PROCESS)) if run.dead(now)]

    def in_state(self, state: RunState) -> Sequence[RunRecord]:
        return self._select(runs.c.state == state)

    def ended(self, states: Collection[RunState], *, since: float) -> Sequence[RunRecord]:
        """Those that ended so after that time."""
        return self._select(runs.c.state.in_(states) & (runs.c.finished_at > since))

    def waiting(self) -> Sequence[RunRecord]:
        """Those that are suspended, or resumed and not yet taken up by a process."""
        return self.in_state(RunState.WAITING)

    def _select(self, where: object) -> Sequence[RunRecord]:
        query = select(runs).where(where).order_by(runs.c.started_at)  # type: ignore[arg-type]
        with self._database.read() as connection:
            return [RunRecord.from_row(row) for row in connection.execute(query).mappings()]


def demand_wanted(connection: Connection, run_id: str) -> None:
    """Within a transaction of the caller. Raises Cancelled if somebody cancelled the run."""
    state = connection.execute(select(runs.c.state).where(runs.c.id == run_id)).scalar_one_or_none()
    if state in {RunState.CANCELLING, RunState.CANCELLED}:
        raise Cancelled("this run was cancelled: it begins nothing more", where=f"run {run_id}")


def _moved(connection: Connection, run_id: str, from_state: RunState, **values: object) -> bool:
    where = (runs.c.id == run_id) & (runs.c.state == from_state)
    return connection.execute(update(runs).where(where).values(**values)).rowcount == 1
