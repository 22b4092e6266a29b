"""The history of each operation: lines that are added, and never changed."""

from __future__ import annotations

from sqlalchemy import Connection

from orchestration.ledger.service import Document
from orchestration.ledger.tables import events

RESERVED = "reserved"
"""The event that has the token of an attempt."""


def note(
    connection: Connection, key: str, attempt: int, event: str, detail: Document | None = None, *, at: float
) -> None:
    """Within a transaction of the caller: what happens and its line are written together, or not at all."""
    values = {"operation_key": key, "attempt": attempt, "at": at, "event": event}
    connection.execute(events.insert().values(**values, detail=detail))
