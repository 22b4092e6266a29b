"""All copies that are due, with the others of their scans: read in pages, and without manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import Connection, or_, select

from orchestration.ledger.copy import CopyState, Role
from orchestration.ledger.database import Database
from orchestration.ledger.operation import OperationState
from orchestration.ledger.service import Document
from orchestration.ledger.tables import copies, holds, operation_scans, operations, results

_SCANS_AT_ONCE = 2000
"""Scans of a page: each transaction is short, and memory bounded, however many copies there are."""

_THERE = (CopyState.PRESENT, CopyState.DELETING, CopyState.QUARANTINED)


class Input(NamedTuple):
    """One of what a result was made from, as far as its receipt says."""

    dataset: str | None
    size: int | None


class DueRow(NamedTuple):
    """A copy that is there, as far as its row tells. Times are seconds since the epoch."""

    id: int
    scan_id: str
    dataset: str
    endpoint: str
    version: str
    role: str
    state: str
    size: int
    files: int
    verified_at: float
    delete_after: float | None
    quarantined_at: float | None = None
    inputs: tuple[Input, ...] = ()
    """Of a result that is due; none without a receipt."""


_COLUMNS = [copies.c[name] for name in DueRow._fields if name != "inputs"]


class Due:
    def __init__(self, database: Database) -> None:
        self._database = database

    def scans(self, before: float) -> Iterator[Sequence[DueRow]]:
        """All copies of each scan of which at least one was to go `before` that time, scan by scan."""
        last = ""
        while True:
            with self._database.read() as connection:
                page = _page(connection, before, last)
                rows = _rows(connection, page, before) if page else []
            for _, group in groupby(rows, key=lambda row: row.scan_id):
                yield tuple(group)
            if len(page) < _SCANS_AT_ONCE:
                return
            last = page[-1]

    def held(self) -> frozenset[str]:
        """The scans on which a hold stands."""
        ends = or_(holds.c.until.is_(None), holds.c.until > self._database.now())
        query = select(holds.c.scan_id).where(holds.c.released_at.is_(None) & ends)
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def catalogued(self) -> frozenset[str]:
        """The scans that the catalogue was given."""
        given = (operations.c.service == "scicat.ingest") & (operations.c.state == OperationState.SUCCEEDED)
        with self._database.read() as connection:
            return frozenset(connection.execute(select(operations.c.scan_id).where(given)).scalars())

    def busy(self, *, harmless: Sequence[str]) -> frozenset[str]:
        """The scans on which something goes on, at services other than these."""
        states = [state for state in OperationState if state.open]
        going_on = operations.c.state.in_(states) & operations.c.service.not_in(harmless)
        filed = select(operations.c.scan_id).where(going_on)
        others = select(operation_scans.c.scan_id).join(operations).where(going_on)
        with self._database.read() as connection:
            return frozenset(connection.execute(filed.union(others)).scalars())


def _page(connection: Connection, before: float, last: str) -> Sequence[str]:
    due = (copies.c.delete_after < before) & copies.c.state.in_(_THERE)
    query = select(copies.c.scan_id).where(due & (copies.c.scan_id > last)).distinct()
    return connection.execute(query.order_by(copies.c.scan_id).limit(_SCANS_AT_ONCE)).scalars().all()


def _rows(connection: Connection, scan_ids: Sequence[str], before: float) -> Sequence[DueRow]:
    query = select(*_COLUMNS).where(copies.c.scan_id.in_(scan_ids) & copies.c.state.in_(_THERE))
    rows = [DueRow(*row) for row in connection.execute(query.order_by(copies.c.scan_id, copies.c.id))]
    caches = [row for row in rows if row.role == Role.CACHE]
    due = {row.scan_id for row in caches if row.delete_after is not None and row.delete_after < before}
    inputs = _inputs(connection, sorted(due)) if due else {}
    return [row._replace(inputs=inputs[row.id]) if row.id in inputs else row for row in rows]


def _inputs(connection: Connection, scan_ids: Sequence[str]) -> Mapping[int, tuple[Input, ...]]:
    """What the copies of results were made from, by their ids, as the last receipt of each says."""
    made = select(results.c.scan_id, results.c.endpoint, results.c.path, results.c.receipt["inputs"])
    made = made.where(results.c.scan_id.in_(scan_ids)).order_by(results.c.created_at, results.c.id)
    told = {tuple(place): inputs for *place, inputs in connection.execute(made)}
    these = select(copies.c.id, copies.c.scan_id, copies.c.endpoint, copies.c.path)
    these = these.where(copies.c.scan_id.in_(scan_ids) & (copies.c.role == Role.CACHE))
    found = {number: told.get(tuple(place), ()) for number, *place in connection.execute(these)}
    return {number: tuple(map(_input, inputs)) for number, inputs in found.items()}


def _input(told: Document) -> Input:
    dataset, size = told.get("dataset"), told.get("size")
    return Input(dataset if isinstance(dataset, str) else None, size if isinstance(size, int) else None)
