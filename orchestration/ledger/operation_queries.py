"""What the ledger knows of operations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, tuple_

from orchestration.errors import UnknownName
from orchestration.ledger.claims import REDONE
from orchestration.ledger.database import Database
from orchestration.ledger.history import RESERVED
from orchestration.ledger.operation import Event, Operation, OperationRecord, OperationState
from orchestration.ledger.permission import PERMITTED
from orchestration.ledger.requests import records
from orchestration.ledger.service import Request
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import events, operation_scans, operations


class OperationQueries:
    """Reads the rows that `Operations` writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> OperationRecord:
        with self._database.read() as connection:
            return existing(connection, key)

    def among(self, keys: Collection[str]) -> Sequence[OperationRecord]:
        """Those of these keys that the ledger has."""
        found: list[OperationRecord] = []
        for some in batched(sorted(keys), KEYS_AT_ONCE):
            found += self._select(select(operations).where(operations.c.key.in_(some)))
        return found

    def of_scan(self, scan_id: str) -> Sequence[OperationRecord]:
        """In the order in which they were planned; also those of many scans, of which it is one."""
        query = select(operations).where(_of_scan(scan_id)).order_by(operations.c.created_at)
        return self._select(query)

    def of_scans(self, scan_ids: Collection[str], *, service: str) -> Sequence[OperationRecord]:
        """Those of a service that are about any of these scans, each once."""
        found: dict[str, OperationRecord] = {}
        for some in batched(sorted(scan_ids), KEYS_AT_ONCE):
            with_others = select(operation_scans.c.operation_key).where(operation_scans.c.scan_id.in_(some))
            these = operations.c.scan_id.in_(some) | operations.c.key.in_(with_others)
            query = select(operations).where(these & (operations.c.service == service))
            found |= {record.key: record for record in self._select(query)}
        return sorted(found.values(), key=lambda record: record.created_at)

    def of_run(self, run_id: str) -> Sequence[OperationRecord]:
        return self._select(select(operations).where(operations.c.run_id == run_id).order_by(operations.c.created_at))

    def open(self) -> Sequence[OperationRecord]:
        """All whose end is not known."""
        states = [state for state in OperationState if state.open]
        return self._select(select(operations).where(operations.c.state.in_(states)).order_by(operations.c.created_at))

    def rival(self, operation: Operation[Request], *, service: str) -> OperationRecord | None:
        """What goes on, or was done, in place of an operation that is to be the only one of its step."""
        with self._database.read() as connection:
            return rival(connection, operation, service=service)

    def uncleared(
        self, service: str, *, before: float, limit: int, after: OperationRecord | None = None
    ) -> Sequence[OperationRecord]:
        """Those of a service that ended before that time, and whose jobs may have left something; the oldest first.

        With `after`, those that come after that one.
        """
        ended = [state for state in OperationState if not state.open]
        ordered = tuple_(operations.c.finished_at, operations.c.key)
        query = select(operations).where(
            operations.c.service == service,
            operations.c.cleared_at.is_(None),
            operations.c.finished_at < before,
            operations.c.state.in_(ended),
        )
        if after is not None:
            query = query.where(ordered > (after.finished_at, after.key))
        return self._select(query.order_by(operations.c.finished_at, operations.c.key).limit(limit))

    def scans_of(self, key: str) -> Sequence[str]:
        """The ids of all scans of which it carries something, that under which it is filed first."""
        with self._database.read() as connection:
            first = existing(connection, key).scan_id
            query = select(operation_scans.c.scan_id).where(operation_scans.c.operation_key == key)
            return [first, *(each for each in connection.execute(query).scalars() if each != first)]

    def history(self, key: str) -> Sequence[Event]:
        query = select(events).where(events.c.operation_key == key).order_by(events.c.id)
        return self._events(query)

    def tokens(self, key: str) -> Sequence[str]:
        """Of all attempts, the oldest first."""
        return [str((event.detail or {})["token"]) for event in self.history(key) if event.event == RESERVED]

    def permissions(self, scan_id: str) -> Mapping[str, Event]:
        """Of each operation of a scan that was ever submitted, by its key: the last decision by which it was."""
        query = select(events).join(operations).where(_of_scan(scan_id), events.c.event == PERMITTED)
        return {event.operation_key: event for event in self._events(query.order_by(events.c.id))}

    def _select(self, query: Any) -> Sequence[OperationRecord]:
        with self._database.read() as connection:
            return records(connection, connection.execute(query).mappings().all())

    def _events(self, query: Any) -> Sequence[Event]:
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [Event(**{name: value for name, value in row.items() if name != "id"}) for row in rows]


def known(connection: Connection, key: str) -> OperationRecord | None:
    """Within a transaction of the caller; None if the ledger has no such operation."""
    row = connection.execute(select(operations).where(operations.c.key == key)).mappings().one_or_none()
    return None if row is None else records(connection, [row])[0]


def existing(connection: Connection, key: str) -> OperationRecord:
    """Within a transaction of the caller.

    Raises:
        UnknownName: if the ledger has no such operation.
    """
    row = known(connection, key)
    if row is None:
        raise UnknownName(f"no operation {key} in the ledger")
    return row


def rival(connection: Connection, operation: Operation[Request], *, service: str) -> OperationRecord | None:
    """Within a transaction of the caller; None as well once the operation has its name itself."""
    mine = known(connection, operation.key)
    if operation.sole_since is None or (mine is not None and mine.state not in REDONE):
        return None
    since = operation.sole_since
    kept = operations.c.cleared_at.is_(None) | (operations.c.cleared_at > since)
    done = (operations.c.service == service) & kept & (operations.c.finished_at > since)
    done &= operations.c.state == OperationState.SUCCEEDED
    for which in (operations.c.state.in_([state for state in OperationState if state.open]), done):
        same = (operations.c.step == operation.step) & (operations.c.destination == operation.destination.name)
        query = select(operations).where(which, same, operations.c.key != operation.key)
        rows = connection.execute(query.order_by(operations.c.created_at).limit(1)).mappings().all()
        if rows:
            return records(connection, rows)[0]
    return None


def _of_scan(scan_id: str) -> ColumnElement[bool]:
    with_others = select(operation_scans.c.operation_key).where(operation_scans.c.scan_id == scan_id)
    return (operations.c.scan_id == scan_id) | operations.c.key.in_(with_others)
