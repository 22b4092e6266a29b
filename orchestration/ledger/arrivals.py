"""Arrivals: data that waits to be carried from one endpoint to another, so that many go in one transfer.

Runs that have some at the same time meet here. Whoever finds that enough wait, or for long enough, makes a batch of
them: one operation, planned in the same transaction, that all of them perform. What a dead run left is taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, select, update

from orchestration.errors import OrchestrationError
from orchestration.ledger.database import Database
from orchestration.ledger.operation import Operation, OperationState, error_document, error_from
from orchestration.ledger.operation_queries import known
from orchestration.ledger.operations import Operations
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.scan import Scan, read_scans
from orchestration.ledger.service import Request
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import arrivals, operations, runs, scans
from orchestration.paths import RelativePath

UNLIMITED = 2**31 - 1

_UNFINISHED = (RunState.RUNNING, RunState.FAILED, RunState.DEAD)
"""Runs whose arrivals may have been left behind; one that waits goes on, one that was cancelled is not to."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """From one endpoint to another, by their names in the settings."""

    source: str
    destination: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A batch is made once so many files or bytes wait, or the first has waited for so many seconds."""

    files: int
    bytes: int
    seconds: float
    by_folder: bool = False
    """Only what lies in one folder goes together: each may be another owner's."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Something that is to be carried: of which scan, in which version, and how large (bytes) it was."""

    scan_id: str
    dataset: str
    path: RelativePath
    version: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Arrival(Waiting):
    """As the ledger has it."""

    id: int
    source: str
    destination: str
    run_id: str
    """Of the run that sees to it."""
    arrived_at: float
    at_most: int
    """So many go together: fewer and fewer, until it is clear which of those that failed together fails."""
    operation_key: str | None
    """The batch that it goes with; None while it waits for one."""
    error: OrchestrationError | None
    settled_at: float | None
    """When all was done that its flow does with it."""

    @classmethod
    def from_row(cls, row: RowMapping) -> Arrival:
        values = dict(row)
        values["path"] = RelativePath(values["path"])
        values["error"] = None if values["error"] is None else error_from(values["error"])
        return cls(**values)


class Arrivals:
    def __init__(self, database: Database, rows: Operations) -> None:
        self._database = database
        self._operations = rows

    def enter(self, route: Route, waiting: Sequence[Waiting], *, run_id: str) -> None:
        """They wait for a batch, unless they go with one that has not ended badly, in the same version; and are this
        run's to settle, also if another had settled them.
        """
        with self._database.write("arrivals") as connection:
            for one in waiting:
                self._enter(connection, route, one, run_id)

    def _enter(self, connection: Connection, route: Route, one: Waiting, run_id: str) -> None:
        now = self._database.now()
        afresh = {
            "version": one.version,
            "size": one.size,
            "arrived_at": now,
            "at_most": UNLIMITED,
            "operation_key": None,
            "error": None,
            "settled_at": None,
        }
        place = {"source": route.source, "destination": route.destination, "path": one.path.text}
        named = {"scan_id": one.scan_id, "dataset": one.dataset, **place}
        where = arrivals.c.scan_id == one.scan_id
        for name in ("dataset", *place):
            where &= arrivals.c[name] == named[name]
        row = connection.execute(select(arrivals).where(where)).mappings().one_or_none()
        if row is None:
            connection.execute(arrivals.insert().values(**named, **afresh, run_id=run_id))
            return
        going = row["version"] == one.version and row["error"] is None
        if going and row["operation_key"] is not None:
            record = known(connection, row["operation_key"])
            going = record is not None and (record.state.open or record.state is OperationState.SUCCEEDED)
        values = {"settled_at": None} if going else afresh
        connection.execute(update(arrivals).where(where).values(**values, run_id=run_id))

    def take_over(self, route: Route, *, run_id: str) -> Sequence[Arrival]:
        """What runs that have died, or failed, had left on a route is this run's from now on; all of that."""
        left = _on(route) & arrivals.c.settled_at.is_(None) & arrivals.c.error.is_(None) & (arrivals.c.run_id != run_id)
        with self._database.write("arrivals") as connection:
            owners = connection.execute(select(arrivals.c.run_id).where(left).distinct()).scalars().all()
            found = connection.execute(select(runs).where(runs.c.id.in_(owners), runs.c.state.in_(_UNFINISHED)))
            dead = [run.id for run in map(RunRecord.from_row, found.mappings()) if self._gone(run)]
            these = left & arrivals.c.run_id.in_(dead)
            rows = connection.execute(update(arrivals).where(these).values(run_id=run_id).returning(arrivals))
            return sorted(map(Arrival.from_row, rows.mappings()), key=lambda each: each.id)

    def _gone(self, run: RunRecord) -> bool:
        return run.state is not RunState.RUNNING or run.dead(self._database.now())

    def gather(
        self,
        route: Route,
        limits: Limits,
        make: Callable[[Sequence[Arrival], Mapping[str, Scan]], Operation[Request]],
        *,
        service: str,
        run_id: str,
    ) -> str | None:
        """Make a batch, if one is due: the key of its operation, which is planned with it. None if more may come.

        What has come to be export-controlled is left waiting: it goes with no others. So is what belongs to a run that
        was cancelled. `make` gets the scans by id.

        Raises:
            PolicyRefused: if one of them may not go; no batch was made.
        """
        while chosen := self._due(route, limits):
            with self._database.read() as connection:
                by_id = read_scans(connection, {each.scan_id for each in chosen})
            operation = make(chosen, by_id)
            with self._operations.together("arrivals", operation, service=service, run_id=run_id) as planning:
                if _free_among(planning.connection, [each.id for each in chosen]) != chosen:
                    continue  # another run has taken some of them, or what there is of them is new
                planning.plan_again()
                for some in batched([each.id for each in chosen], KEYS_AT_ONCE):
                    these = update(arrivals).where(arrivals.c.id.in_(some))
                    planning.connection.execute(these.values(operation_key=operation.key))
                return operation.key
        return None

    def _due(self, route: Route, limits: Limits) -> Sequence[Arrival]:
        with self._database.read() as connection:
            found = connection.execute(_free().where(_on(route)).limit(limits.files)).mappings()
            return _chosen([Arrival.from_row(row) for row in found], limits, now=self._database.now())

    def release(self, key: str, *, at_most: int | None = None) -> None:
        """What went with a batch that has ended without carrying it waits again, to go with at most so many."""
        values = {"operation_key": None} | ({} if at_most is None else {"at_most": at_most})
        these = (arrivals.c.operation_key == key) & arrivals.c.error.is_(None)
        with self._database.write("arrivals") as connection:
            connection.execute(update(arrivals).where(these).values(**values))

    def fail(self, one: Arrival, error: OrchestrationError) -> None:
        """It goes no further, for a reason of its own; entered again it is tried again."""
        with self._database.write("arrivals") as connection:
            this = (arrivals.c.id == one.id) & (arrivals.c.version == one.version)
            connection.execute(update(arrivals).where(this).values(error=error_document(error)))

    def settle(self, scan_ids: Collection[str], *, run_id: str) -> None:
        """All was done that a run does with these scans."""
        with self._database.write("arrivals") as connection:
            for some in batched(sorted(scan_ids), KEYS_AT_ONCE):
                these = arrivals.c.scan_id.in_(some) & (arrivals.c.run_id == run_id)
                connection.execute(update(arrivals).where(these).values(settled_at=self._database.now()))

    def unsettled(self, *, scan_id: str | None = None, run_id: str | None = None) -> Sequence[Arrival]:
        """Those of a scan, or of a run, that are still to be carried, or to be done with."""
        where = arrivals.c.settled_at.is_(None) & arrivals.c.error.is_(None)
        for column, value in ((arrivals.c.scan_id, scan_id), (arrivals.c.run_id, run_id)):
            where = where if value is None else where & (column == value)
        return self._select(where)

    def withdraw(self, scan_id: str, error: OrchestrationError) -> bool:
        """What runs that have ended had left of a scan is taken over by no other; whether there was any.

        What is under way with an operation that has not ended stays.
        """
        ended = select(runs.c.id).where(runs.c.state.in_([RunState.FAILED, RunState.DEAD]))
        under_way = select(operations.c.key).where(operations.c.state.in_([one for one in OperationState if one.open]))
        left = arrivals.c.settled_at.is_(None) & arrivals.c.error.is_(None) & (arrivals.c.scan_id == scan_id)
        left &= arrivals.c.operation_key.is_(None) | arrivals.c.operation_key.not_in(under_way)
        changed = update(arrivals).where(left & arrivals.c.run_id.in_(ended)).values(error=error_document(error))
        with self._database.write("arrivals") as connection:
            return connection.execute(changed).rowcount > 0

    def of_operation(self, key: str) -> Sequence[Arrival]:
        return self._select(arrivals.c.operation_key == key)

    def among(self, route: Route, scan_ids: Collection[str]) -> Sequence[Arrival]:
        """Of these scans, on a route."""
        found: list[Arrival] = []
        for some in batched(sorted(scan_ids), KEYS_AT_ONCE):
            found += self._select(_on(route) & arrivals.c.scan_id.in_(some))
        return found

    def _select(self, where: ColumnElement[bool]) -> Sequence[Arrival]:
        query = select(arrivals).where(where).order_by(arrivals.c.id)
        with self._database.read() as connection:
            return [Arrival.from_row(row) for row in connection.execute(query).mappings()]


def _on(route: Route) -> ColumnElement[bool]:
    return (arrivals.c.source == route.source) & (arrivals.c.destination == route.destination)


def _free() -> Select[Any]:
    """What may go with others now."""
    cancelled = select(runs.c.id).where(runs.c.state.in_([RunState.CANCELLING, RunState.CANCELLED]))
    free = arrivals.c.operation_key.is_(None) & arrivals.c.error.is_(None) & arrivals.c.settled_at.is_(None)
    free &= arrivals.c.run_id.not_in(cancelled) & scans.c.export_controlled.is_(False)
    return select(arrivals).join(scans, scans.c.id == arrivals.c.scan_id).where(free).order_by(arrivals.c.id)


def _free_among(connection: Connection, ids: Sequence[int]) -> Sequence[Arrival]:
    found: list[Arrival] = []
    for some in batched(ids, KEYS_AT_ONCE):
        rows = connection.execute(_free().where(arrivals.c.id.in_(some))).mappings()
        found += map(Arrival.from_row, rows)
    return found


def _chosen(waiting: Sequence[Arrival], limits: Limits, *, now: float) -> Sequence[Arrival]:
    """The oldest, with those that go together with it; none yet if more may come."""
    if not waiting:
        return []
    first = waiting[0]
    alike = [each for each in waiting if each.at_most == first.at_most and (not limits.by_folder or _kin(each, first))]
    chosen: list[Arrival] = []
    size, most = 0, min(limits.files, first.at_most)
    names: set[str] = set()
    full = False
    for one in alike:
        if chosen and (len(chosen) == most or size + one.size > limits.bytes):
            full = True
            break
        if one.path.text in names:
            continue  # another dataset at the same path goes with the next
        names.add(one.path.text)
        chosen.append(one)
        size += one.size
    full = full or len(chosen) >= most or size >= limits.bytes
    due = now - min(each.arrived_at for each in alike) >= limits.seconds or first.at_most != UNLIMITED
    return chosen if full or due else []


def _kin(one: Waiting, other: Waiting) -> bool:
    return one.path.parent == other.path.parent
