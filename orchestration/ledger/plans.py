"""Plans: an operation is written down before anything is asked of the outside world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, update

from orchestration.errors import InvalidInput
from orchestration.ledger.claims import REDONE, blank_attempt
from orchestration.ledger.history import note
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.operation_queries import existing, known
from orchestration.ledger.requests import shelve
from orchestration.ledger.service import Request
from orchestration.ledger.tables import operation_scans, operations


@dataclass(frozen=True)
class Together:
    """What one transaction writes, or nothing of it."""

    connection: Connection
    plan_again: Callable[[], None]
    """Its operation is planned; one that ended badly is open again."""


def plan(
    connection: Connection, operation: Operation[Request], *, service: str, run_id: str | None, now: float
) -> OperationRecord:
    """Within a transaction of the caller; one that is known is left as it is, but for the service if it may change.

    Raises:
        InvalidInput: if it is going on at another service.
    """
    row = known(connection, operation.key)
    if row is None:
        _insert(connection, operation, service=service, run_id=run_id, now=now)
        return existing(connection, operation.key)
    if row.service == service or row.state is OperationState.SUCCEEDED:
        return row
    if row.token is not None and row.state.open:
        raise InvalidInput(
            f"this is going on at {row.service} and cannot be asked of {service} as well",
            where=operation.step,
            next_step=f"wait for {row.service}, or cancel it there",
        )
    where = _place(operation, service)
    connection.execute(update(operations).where(operations.c.key == row.key).values(**where))
    return existing(connection, row.key)


def reopen(connection: Connection, row: OperationRecord, *, run_id: str | None, now: float) -> None:
    """Within a transaction of the caller: one that has ended badly is planned again."""
    if row.state not in REDONE:
        return
    again = blank_attempt(row.attempt + 1) | {"run_id": run_id, "began_at": now}
    connection.execute(update(operations).where(operations.c.key == row.key).values(**again))
    note(connection, row.key, row.attempt + 1, "planned", at=now)


def expire(connection: Connection, key: str) -> None:
    """Within a transaction of the caller: the deletion and this are written together, or not at all."""
    done = (operations.c.key == key) & (operations.c.state == OperationState.SUCCEEDED)
    connection.execute(update(operations).where(done).values(state=OperationState.EXPIRED))


def _insert(
    connection: Connection, operation: Operation[Request], *, service: str, run_id: str | None, now: float
) -> None:
    values = {
        "key": operation.key,
        "scan_id": operation.scan.id,
        "step": operation.step,
        "request": shelve(connection, operation.request.document()),
        "run_id": run_id,
        "state": OperationState.PLANNED,
        "attempt": 1,
        "cancel_requested": False,
        "created_at": now,
        "began_at": now,
    }
    connection.execute(operations.insert().values(**values, **_place(operation, service)))
    if operation.others:
        both = [{"operation_key": operation.key, "scan_id": each.id} for each in (operation.scan, *operation.others)]
        connection.execute(operation_scans.insert(), both)
    note(connection, operation.key, 1, "planned", at=now)


def _place(operation: Operation[Request], service: str) -> dict[str, Any]:
    return {"service": service, "destination": operation.destination.name}
