"""The rows of operations: planned before anything is asked, claimed by one run at a time, closed with the outcome."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from orchestration.errors import LeaseLost, OrchestrationError, UnknownName
from orchestration.ledger.database import Database
from orchestration.ledger.operation import Event, Operation, OperationRecord, OperationState, error_document
from orchestration.ledger.owner import Owner
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Request
from orchestration.ledger.tables import events, operations, scans
from orchestration.policy import permit

DEFAULT_LEASE_SECONDS = 30.0

_REDONE = {OperationState.FAILED, OperationState.CANCELLED, OperationState.EXPIRED}


class Operations:
    def __init__(self, database: Database, *, lease_seconds: float = DEFAULT_LEASE_SECONDS) -> None:
        self._database = database
        self.lease_seconds = lease_seconds

    def plan(self, operation: Operation[Request], *, service: str, run_id: str | None = None) -> OperationRecord:
        """Write down what is about to be asked; an operation that is already known is returned as it is.

        The policy is asked here, on the scan as the ledger has it: no operation exists that it does not permit.

        Raises:
            PolicyRefused: if the data may not go to the destination.
        """
        key = operation.key
        with self._database.write("operations") as connection:
            self._permit(connection, operation)
            known = self._row(connection, key)
            if known is not None:
                return known
            now = time.time()
            values = {
                "key": key,
                "scan_id": operation.scan.id,
                "step": operation.step,
                "service": service,
                "destination": operation.destination.name,
                "request": operation.request.document(),
                "run_id": run_id,
                "state": OperationState.PLANNED,
                "attempt": 1,
                "cancel_requested": False,
                "created_at": now,
                "began_at": now,
            }
            connection.execute(operations.insert().values(**values))
            self._note(connection, key, 1, "planned")
            return self._existing(connection, key)

    def claim(self, key: str, owner: Owner, *, redo: bool, run_id: str | None = None) -> OperationRecord | None:
        """Take the operation for `owner`; None if another live run has it or (without `redo`) if it has ended.

        One that ended badly, or whose result was deleted since, begins a new attempt with a token of its own.
        """
        with self._database.write("operations") as connection:
            row = self._existing(connection, key)
            if row.state is OperationState.SUCCEEDED or (row.state in _REDONE and not redo) or _held(row, owner):
                return None
            changes: dict[str, Any] = {"owner": str(owner), "lease_until": time.time() + self.lease_seconds}
            if run_id is not None:
                changes["run_id"] = run_id
            attempt = row.attempt
            if row.state in _REDONE:
                attempt += 1
                changes |= _blank_attempt(attempt)
            connection.execute(update(operations).where(operations.c.key == key).values(**changes))
            self._note(connection, key, attempt, "claimed", {"owner": str(owner)})
            return self._existing(connection, key)

    def renew(self, key: str, owner: Owner) -> None:
        """Hold the claim for another lease. Raises LeaseLost if another run has it now."""
        self._change(key, owner, lease_until=time.time() + self.lease_seconds)

    def reserved(self, key: str, owner: Owner, token: str) -> None:
        self._change(key, owner, event="reserved", detail={"token": token}, token=token)

    def submitted(self, key: str, owner: Owner, handle: str, *, adopted: bool) -> None:
        self._change(
            key,
            owner,
            event="adopted" if adopted else "submitted",
            detail={"handle": handle},
            handle=handle,
            state=OperationState.RUNNING,
            submitted_at=time.time(),
        )

    def progressed(self, key: str, owner: Owner, progress: Document) -> None:
        self._change(key, owner, progress=progress)

    def succeeded(self, key: str, owner: Owner, evidence: Document) -> None:
        self._finish(key, owner, OperationState.SUCCEEDED, evidence=evidence, error=None)

    def failed(self, key: str, owner: Owner, error: OrchestrationError, evidence: Document) -> None:
        self._finish(key, owner, OperationState.FAILED, evidence=evidence, error=error_document(error))

    def cancelled(self, key: str, owner: Owner, error: OrchestrationError, evidence: Document) -> None:
        self._finish(key, owner, OperationState.CANCELLED, evidence=evidence, error=error_document(error))

    def noted(self, key: str, owner: Owner, event: str, detail: Document) -> None:
        """Add a line to the history."""
        self._change(key, owner, event=event, detail=detail)

    def release(self, key: str, owner: Owner) -> None:
        """Give the claim back without an outcome: the next run goes on from here. Not an error if it was lost."""
        with self._database.write("operations") as connection:
            connection.execute(
                update(operations)
                .where(operations.c.key == key, operations.c.owner == str(owner))
                .values(owner=None, lease_until=None)
            )

    def request_cancel(self, key: str) -> None:
        """Ask the run that holds it, or the next that claims it, to cancel."""
        with self._database.write("operations") as connection:
            row = self._existing(connection, key)
            connection.execute(update(operations).where(operations.c.key == key).values(cancel_requested=True))
            self._note(connection, key, row.attempt, "cancel requested")

    def expire(self, key: str) -> None:
        """What it made was deleted on purpose: asked for again, it is done again."""
        with self._database.write("operations") as connection:
            expire(connection, key)

    def get(self, key: str) -> OperationRecord:
        with self._database.read() as connection:
            return self._existing(connection, key)

    def of_scan(self, scan_id: str) -> Sequence[OperationRecord]:
        """In the order in which they were planned."""
        query = select(operations).where(operations.c.scan_id == scan_id).order_by(operations.c.created_at)
        return self._select(query)

    def of_run(self, run_id: str) -> Sequence[OperationRecord]:
        return self._select(select(operations).where(operations.c.run_id == run_id).order_by(operations.c.created_at))

    def open(self) -> Sequence[OperationRecord]:
        """All whose end is not known."""
        states = [state for state in OperationState if state.open]
        return self._select(select(operations).where(operations.c.state.in_(states)).order_by(operations.c.created_at))

    def history(self, key: str) -> Sequence[Event]:
        query = select(events).where(events.c.operation_key == key).order_by(events.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [Event(**{name: value for name, value in row.items() if name != "id"}) for row in rows]

    def _select(self, query: Any) -> Sequence[OperationRecord]:
        with self._database.read() as connection:
            return [OperationRecord.from_row(row) for row in connection.execute(query).mappings()]

    def _finish(
        self, key: str, owner: Owner, state: OperationState, *, evidence: Document, error: Document | None
    ) -> None:
        self._change(
            key,
            owner,
            event=state.value,
            detail=error,
            state=state,
            evidence=evidence,
            error=error,
            finished_at=time.time(),
            owner=None,
            lease_until=None,
        )

    def _change(
        self, key: str, claimed_by: Owner, *, event: str = "", detail: Document | None = None, **values: Any
    ) -> None:
        """Change the row if, and only if, `claimed_by` still holds it."""
        with self._database.write("operations") as connection:
            mine = (operations.c.key == key) & (operations.c.owner == str(claimed_by))
            row = connection.execute(select(operations.c.attempt).where(mine)).one_or_none()
            if row is None:
                raise LeaseLost(
                    "another run has taken this operation over",
                    where=key,
                    next_step="nothing: this run stops, the other one goes on",
                )
            if values:
                connection.execute(update(operations).where(mine).values(**values))
            if event:
                self._note(connection, key, row.attempt, event, detail)

    @staticmethod
    def _permit(connection: Connection, operation: Operation[Request]) -> None:
        row = connection.execute(select(scans).where(scans.c.id == operation.scan.id)).mappings().one_or_none()
        if row is None:
            raise UnknownName(f"scan {operation.scan.id} is not registered in the ledger")
        scan = Scan.from_row(row)
        permit(scan=scan.path.text, export_controlled=scan.export_controlled, destination=operation.destination)

    @staticmethod
    def _row(connection: Connection, key: str) -> OperationRecord | None:
        row = connection.execute(select(operations).where(operations.c.key == key)).mappings().one_or_none()
        return None if row is None else OperationRecord.from_row(row)

    def _existing(self, connection: Connection, key: str) -> OperationRecord:
        row = self._row(connection, key)
        if row is None:
            raise UnknownName(f"no operation {key} in the ledger")
        return row

    @staticmethod
    def _note(connection: Connection, key: str, attempt: int, event: str, detail: Document | None = None) -> None:
        values = {"operation_key": key, "attempt": attempt, "at": time.time(), "event": event, "detail": detail}
        connection.execute(events.insert().values(**values))


def expire(connection: Connection, key: str) -> None:
    """Within a transaction of the caller: the deletion and this are written together, or not at all."""
    done = (operations.c.key == key) & (operations.c.state == OperationState.SUCCEEDED)
    connection.execute(update(operations).where(done).values(state=OperationState.EXPIRED))


def _held(row: OperationRecord, claimant: Owner) -> bool:
    """Another run has it, and may still be alive."""
    if row.owner is None or row.owner == str(claimant):
        return False
    if row.lease_until is not None and row.lease_until < time.time():
        return False
    return not Owner.parse(row.owner).certainly_dead()


def _blank_attempt(attempt: int) -> dict[str, Any]:
    return {
        "attempt": attempt,
        "state": OperationState.PLANNED,
        "token": None,
        "handle": None,
        "progress": None,
        "evidence": None,
        "error": None,
        "cancel_requested": False,
        "began_at": time.time(),
        "submitted_at": None,
        "finished_at": None,
    }
