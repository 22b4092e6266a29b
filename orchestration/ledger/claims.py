"""Claims on operations: each is held by one run at a time, and by a dead one for no longer than its lease."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, update

from orchestration.errors import LeaseLost
from orchestration.ledger.history import note
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.tables import operations

REDONE = {OperationState.FAILED, OperationState.CANCELLED, OperationState.EXPIRED}
"""Asked for again, what stands so is done again, in another attempt."""


def held(row: OperationRecord, now: float) -> bool:
    """A run has it, and may still be alive."""
    if row.owner is None or (row.lease_until is not None and row.lease_until < now):
        return False
    return not Owner.parse(row.owner).certainly_dead()


def claim(
    connection: Connection,
    row: OperationRecord,
    owner: Owner,
    *,
    redo: bool,
    run_id: str | None,
    now: float,
    until: float,
) -> bool:
    """Within a transaction of the caller, for the lease `until` that time.

    False if another live run has it or (without `redo`) if it has ended.
    """
    theirs = row.owner != str(owner) and held(row, now)
    if row.state is OperationState.SUCCEEDED or (row.state in REDONE and not redo) or theirs:
        return False
    changes: dict[str, Any] = {"owner": str(owner), "lease_until": until}
    if run_id is not None:
        changes["run_id"] = run_id
    attempt = row.attempt
    if row.state in REDONE:
        attempt += 1
        changes |= blank_attempt(attempt)
    if row.state in REDONE or row.handle is None:
        changes["began_at"] = now
    connection.execute(update(operations).where(operations.c.key == row.key).values(**changes))
    note(connection, row.key, attempt, "claimed", {"owner": str(owner)}, at=now)
    return True


def blank_attempt(attempt: int) -> dict[str, Any]:
    """What the row of an operation says when an attempt begins of which nothing is known yet."""
    return {
        "attempt": attempt,
        "state": OperationState.PLANNED,
        "token": None,
        "handle": None,
        "progress": None,
        "evidence": None,
        "error": None,
        "cancel_requested": False,
        "submitted_at": None,
        "finished_at": None,
        "cleared_at": None,
    }


def lost(key: str) -> LeaseLost:
    return LeaseLost(
        "another run has taken this operation over",
        where=key,
        next_step="nothing: this run stops, the other one goes on",
    )
