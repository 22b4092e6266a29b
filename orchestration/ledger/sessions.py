"""How many operations a service has of ours at once; no more than it takes, from whatever process."""

from __future__ import annotations

from sqlalchemy import Connection, select

from orchestration.ledger.claims import held
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.requests import records
from orchestration.ledger.tables import events, operations

ADMITTED = "admitted"
"""The event that gives an operation its place, until it is submitted; it lapses with the claim of its run."""


def busy(connection: Connection, service: str, *, besides: str, now: float) -> int:
    """Operations, besides one, that were submitted and have not ended, or that are about to be submitted."""
    states = [state for state in OperationState if state.open]
    query = select(operations).where(
        operations.c.service == service, operations.c.state.in_(states), operations.c.key != besides
    )
    rows = records(connection, connection.execute(query).mappings().all())
    return sum(row.token is not None or (held(row, now) and _admitted(connection, row)) for row in rows)


def _admitted(connection: Connection, row: OperationRecord) -> bool:
    """Since it was claimed last."""
    query = (
        select(events.c.event)
        .where(events.c.operation_key == row.key, events.c.attempt == row.attempt)
        .where(events.c.event.in_(["claimed", ADMITTED]))
        .order_by(events.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar() == ADMITTED
