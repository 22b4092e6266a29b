"""Batches: one request to process many datasets, each of which ends done, or failed with a reason of its own."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, case, func, select, update

from orchestration.errors import OrchestrationError, UnknownName
from orchestration.ledger.database import Database
from orchestration.ledger.operation import error_document, error_from
from orchestration.ledger.scan import MIN_ID_CHARACTERS
from orchestration.ledger.service import Document
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import batch_items, batches, scans


class ItemState(enum.StrEnum):
    """::

    waiting ──> running ──> done
       ^           └──────> failed ──┐
       └─────────── retry ───────────┘
    """

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    id: str
    flow: str
    beamline: str
    name: str
    """For people: the experiment."""
    parameters: Document
    """With which every item is processed."""
    run_id: str
    """Of the run that works at it, or did so last."""
    created_at: float

    @classmethod
    def from_row(cls, row: RowMapping) -> BatchRecord:
        return cls(**row)


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    batch_id: str
    name: str
    """Unique in the batch: the path of the dataset below the experiment."""
    parameters: Document
    """Inputs of this item, as they were when the batch was made."""
    position: int
    scan_id: str | None
    state: ItemState
    attempts: int
    """How often it was taken up after it had waited or ended."""
    error: OrchestrationError | None
    evidence: Document | None
    """Where its results are, the subject of its record, ...; None unless it is done."""
    updated_at: float

    @classmethod
    def from_row(cls, row: RowMapping) -> BatchItem:
        values = dict(row)
        values["state"] = ItemState(values["state"])
        values["error"] = None if values["error"] is None else error_from(values["error"])
        return cls(**values)


class Batches:
    """Methods take the whole id of a batch, except `get`; all raise UnknownName for what is not in the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        *,
        id: str,
        flow: str,
        beamline: str,
        name: str,
        parameters: Document,
        run_id: str,
        items: Mapping[str, Document],
    ) -> BatchRecord:
        """A run begins a batch, or goes on with the one of this id: then with the inputs that it was made with."""
        where = batches.c.id == id
        with self._database.write("batches") as connection:
            if connection.execute(update(batches).where(where).values(run_id=run_id)).rowcount == 0:
                now = self._database.now()
                connection.execute(
                    batches.insert().values(
                        id=id,
                        flow=flow,
                        beamline=beamline,
                        name=name,
                        parameters=parameters,
                        run_id=run_id,
                        created_at=now,
                    )
                )
                _add(connection, id, items, now)
            return BatchRecord.from_row(connection.execute(select(batches).where(where)).mappings().one())

    def get(self, id: str) -> BatchRecord:
        """By id, or by the beginning of one.

        Raises:
            UnknownName: if there is none, or a beginning fits several.
        """
        start = max(len(id), MIN_ID_CHARACTERS)
        query = select(batches).where(func.substr(batches.c.id, 1, start) == id)
        with self._database.read() as connection:
            begun = [BatchRecord.from_row(row) for row in connection.execute(query).mappings()]
        found = [batch for batch in begun if batch.id == id] or begun
        if len(found) > 1:
            raise UnknownName(f"{id!r} is the beginning of {len(found)} batches", next_step="give more of the id")
        if not found:
            raise _unknown(id)
        return found[0]

    def items(self, id: str) -> Sequence[BatchItem]:
        """In the order in which they were given."""
        query = select(batch_items).where(batch_items.c.batch_id == id).order_by(batch_items.c.position)
        with self._database.read() as connection:
            _demand(connection, id)
            return [BatchItem.from_row(row) for row in connection.execute(query).mappings()]

    def take(self, id: str, name: str, *, scan_id: str) -> None:
        """Somebody works at this item, which is this scan. Taken up again after a crash, it is the same attempt."""
        taken_before = batch_items.c.state == ItemState.RUNNING
        with self._database.write("batches") as connection:
            if connection.execute(select(scans.c.id).where(scans.c.id == scan_id)).one_or_none() is None:
                raise UnknownName(f"no scan {scan_id!r} in the ledger", where=name, next_step="register the scan first")
            self._change(
                connection,
                id,
                name,
                state=ItemState.RUNNING,
                attempts=batch_items.c.attempts + case((taken_before, 0), else_=1),
                scan_id=scan_id,
                error=None,
                evidence=None,
            )

    def done(self, id: str, name: str, *, evidence: Document) -> None:
        with self._database.write("batches") as connection:
            self._change(connection, id, name, state=ItemState.DONE, error=None, evidence=evidence)

    def fail(self, id: str, name: str, error: OrchestrationError) -> None:
        document = error_document(error)
        with self._database.write("batches") as connection:
            self._change(connection, id, name, state=ItemState.FAILED, error=document, evidence=None)

    def take_all(self, id: str, scan_ids: Mapping[str, str]) -> None:
        """As `take`, of many items: the id of the scan by the name of the item."""
        turn = batch_items.c.attempts + case((batch_items.c.state == ItemState.RUNNING, 0), else_=1)
        this = (batch_items.c.batch_id == id) & (batch_items.c.name == bindparam("item"))
        values = {"state": ItemState.RUNNING, "attempts": turn, "scan_id": bindparam("scan")}
        taken = update(batch_items).where(this).values(**values, error=None, evidence=None, **self._now())
        with self._database.write("batches") as connection:
            _demand(connection, id)
            for name, scan_id in scan_ids.items():
                connection.execute(taken, {"item": name, "scan": scan_id})

    def end_scans(
        self,
        flow: str,
        parameters: Document,
        *,
        done: Mapping[str, Document],
        failed: Mapping[str, OrchestrationError],
    ) -> None:
        """What came of scans (evidence or error, by id) came of them in every batch that asks the same of a flow."""
        good = {"state": ItemState.DONE, "error": None}
        bad = {"state": ItemState.FAILED, "evidence": None}
        with self._database.write("batches") as connection:
            for name, id, scan_id in _open_items(connection, flow, parameters, [*done, *failed]):
                if scan_id in done:
                    self._change(connection, id, name, **good, evidence=done[scan_id])
                else:
                    self._change(connection, id, name, **bad, error=error_document(failed[scan_id]))

    def of_scan(self, scan_id: str) -> Sequence[tuple[BatchRecord, BatchItem]]:
        """The items that are this scan, each with its batch; the oldest batch first."""
        return self._with_batches(batch_items.c.scan_id == scan_id)

    def untaken(self, beamline: str) -> Sequence[tuple[BatchRecord, BatchItem]]:
        """The items of a beamline that wait and were never taken: which scan each is, is known by its inputs alone."""
        new = (batch_items.c.state == ItemState.WAITING) & batch_items.c.scan_id.is_(None)
        return self._with_batches(new & (batches.c.beamline == beamline))

    def _with_batches(self, condition: ColumnElement[bool]) -> Sequence[tuple[BatchRecord, BatchItem]]:
        query = select(batch_items).join(batches).where(condition).order_by(batches.c.created_at)
        with self._database.read() as connection:
            items = [BatchItem.from_row(row) for row in connection.execute(query).mappings()]
            those = select(batches).where(batches.c.id.in_({item.batch_id for item in items}))
            known = {row["id"]: BatchRecord.from_row(row) for row in connection.execute(those).mappings()}
        return [(known[item.batch_id], item) for item in items]

    def retry(self, id: str) -> Sequence[str]:
        """The failed items wait again, with the inputs they had; returns their names, in order."""
        failed = (batch_items.c.batch_id == id) & (batch_items.c.state == ItemState.FAILED)
        with self._database.write("batches") as connection:
            _demand(connection, id)
            query = select(batch_items.c.name).where(failed).order_by(batch_items.c.position)
            names = connection.execute(query).scalars().all()
            afresh = {"state": ItemState.WAITING, "error": None, **self._now()}
            connection.execute(update(batch_items).where(failed).values(**afresh))
        return names

    def latest(self, *, limit: int = 50, flow: str | None = None) -> Sequence[BatchRecord]:
        """Newest first."""
        query = select(batches).order_by(batches.c.created_at.desc(), batches.c.id).limit(limit)
        if flow is not None:
            query = query.where(batches.c.flow == flow)
        with self._database.read() as connection:
            return [BatchRecord.from_row(row) for row in connection.execute(query).mappings()]

    def counts(self, id: str) -> Mapping[ItemState, int]:
        """How many items are in each state, also in those in which there is none."""
        query = select(batch_items.c.state, func.count()).where(batch_items.c.batch_id == id)
        with self._database.read() as connection:
            _demand(connection, id)
            rows = connection.execute(query.group_by(batch_items.c.state))
            found = {ItemState(state): count for state, count in rows}
        return {state: found.get(state, 0) for state in ItemState}

    def _now(self) -> dict[str, float]:
        return {"updated_at": self._database.now()}

    def _change(self, connection: Connection, id: str, name: str, **values: object) -> None:
        where = (batch_items.c.batch_id == id) & (batch_items.c.name == name)
        changed = update(batch_items).where(where).values(**values, **self._now())
        if connection.execute(changed).rowcount == 0:
            _demand(connection, id)
            raise UnknownName(
                f"no item {name!r} in batch {id}", next_step=f"look it up with `beamline batches {id[:8]}`"
            )


def _add(connection: Connection, id: str, items: Mapping[str, Document], now: float) -> None:
    rows = [
        {
            "batch_id": id,
            "name": name,
            "parameters": parameters,
            "position": position,
            "state": ItemState.WAITING,
            "attempts": 0,
            "updated_at": now,
        }
        for position, (name, parameters) in enumerate(items.items())
    ]
    if rows:
        connection.execute(batch_items.insert(), rows)


def _open_items(
    connection: Connection, flow: str, parameters: Document, scan_ids: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """Name, batch and scan of the items of these scans that are not done, in batches of that flow that ask this."""
    for some in batched(scan_ids, KEYS_AT_ONCE):
        query = select(batch_items.c.name, batch_items.c.scan_id, batches.c.id, batches.c.parameters).join(batches)
        these = query.where(batch_items.c.scan_id.in_(some), batch_items.c.state != ItemState.DONE)
        for row in connection.execute(these.where(batches.c.flow == flow)).all():
            if row.parameters == parameters:
                yield row.name, row.id, row.scan_id


def _demand(connection: Connection, id: str) -> None:
    if connection.execute(select(batches.c.id).where(batches.c.id == id)).one_or_none() is None:
        raise _unknown(id)


def _unknown(id: str) -> UnknownName:
    return UnknownName(f"no batch {id!r} in the ledger", next_step="look it up with `beamline batches`")
