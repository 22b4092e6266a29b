"""The rows of operations: planned before anything is asked, claimed by one run at a time, closed with the outcome."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, select, update

from orchestration.errors import LedgerError, NameTaken, OperationFailed, OrchestrationError, PolicyRefused
from orchestration.ledger import claims, permission, plans
from orchestration.ledger.claims import lost
from orchestration.ledger.database import Database
from orchestration.ledger.history import RESERVED, note
from orchestration.ledger.manifests import Manifests
from orchestration.ledger.operation import Operation, OperationRecord, OperationState, error_document
from orchestration.ledger.operation_queries import OperationQueries, existing, known, rival
from orchestration.ledger.owner import Owner
from orchestration.ledger.permission import PERMITTED, Rules
from orchestration.ledger.plans import Together
from orchestration.ledger.runs import demand_wanted
from orchestration.ledger.service import Document, Request
from orchestration.ledger.sessions import ADMITTED, busy
from orchestration.ledger.tables import operations
from orchestration.policy import Permitted, Place

R = TypeVar("R", bound=Request)

DEFAULT_LEASE_SECONDS = 30.0


class Operations(OperationQueries):
    def __init__(
        self, database: Database, *, lease_seconds: float = DEFAULT_LEASE_SECONDS, rules: Rules | None = None
    ) -> None:
        super().__init__(database)
        self.lease_seconds = lease_seconds
        self._rules = rules or {}

    def plan(
        self, operation: Operation[Request], *, service: str, site: Place | None = None, run_id: str | None = None
    ) -> OperationRecord:
        """Write down what is about to be asked; an operation that is already known is returned as it is.

        The policy is asked here, on the scan as the ledger has it: nothing is planned that it does not permit. `site`
        is where the service works, if it is one that works at one place.

        Raises:
            PolicyRefused: if the data may not go to the destination.
            InvalidInput: if it is going on at another service.
        """
        with (
            self._denials(operation, service=service, site=site, run_id=run_id),
            self._database.write("operations") as connection,
        ):
            return self._plan(connection, operation, service=service, site=site, run_id=run_id)

    @contextmanager
    def together(
        self, table: str, operation: Operation[Request], *, service: str, run_id: str | None = None
    ) -> Iterator[Together]:
        """A transaction of the caller, who plans an operation of a service together with what he writes.

        A refusal undoes all of it, and is written down by itself.

        Raises:
            PolicyRefused: if the operation is not permitted.
        """
        with (
            self._denials(operation, site=None, service=service, run_id=run_id),
            self._database.write(table) as connection,
        ):
            plan_again = partial(self.plan_again, connection, operation, service=service, run_id=run_id)
            yield Together(connection, plan_again)

    def plan_again(
        self, connection: Connection, operation: Operation[Request], *, service: str, run_id: str | None
    ) -> None:
        """Within a transaction of `together`: `plan`, and one that has ended badly is open again, too."""
        row = self._plan(connection, operation, service=service, run_id=run_id)
        plans.reopen(connection, row, run_id=run_id, now=self._database.now())

    def claim(self, key: str, owner: Owner, *, redo: bool, run_id: str | None = None) -> OperationRecord | None:
        """Take the operation for `owner`; None if another live run has it or (without `redo`) if it has ended.

        One that ended badly, or whose result was deleted since, begins a new attempt with a token of its own.
        """
        with self._database.write("operations") as connection:
            return self._claim(connection, existing(connection, key), owner, redo=redo, run_id=run_id)

    def take(
        self,
        operation: Operation[Request],
        owner: Owner,
        *,
        service: str,
        redo: bool,
        site: Place | None = None,
        run_id: str | None = None,
    ) -> OperationRecord | None:
        """`plan` and `claim`, written together: one commit less on the way of every operation.

        Raises:
            Cancelled: if somebody cancelled the run.
            NameTaken: if it is to be the only one of its step, and is not.
        """
        with (
            self._denials(operation, service=service, site=site, run_id=run_id),
            self._database.write("operations") as connection,
        ):
            if run_id is not None:
                demand_wanted(connection, run_id)
            if (other := rival(connection, operation, service=service)) is not None:
                raise NameTaken(f"another run does it: {other.step}, of which the key is {other.key}", where=other.step)
            row = self._plan(connection, operation, service=service, site=site, run_id=run_id)
            return self._claim(connection, row, owner, redo=redo, run_id=run_id)

    def permitted(
        self, operation: Operation[R], owner: Owner, *, token: str | None = None, site: Place | None = None
    ) -> Permitted[R] | None:
        """Asked before each thing that cannot be taken back, with where its service works (`site`): may it be done now?
        None if somebody asked to cancel it. That it is permitted is written down, together with a `token` that the
        service has just reserved.

        Raises:
            LeaseLost: if another run has it now.
            PolicyRefused: if it may not, or may not any more: the scan was put under export control meanwhile.
        """
        with self._denials(operation, site=site), self._database.write("operations") as connection:
            row = existing(connection, operation.key)
            if row.owner != str(owner):
                raise lost(row.key)
            if row.cancel_requested:
                return None
            permitted = permission.ask(connection, operation, self._rules, site=site, at=self._database.now())
            if token is not None:
                connection.execute(update(operations).where(operations.c.key == row.key).values(token=token))
                self._note(connection, row.key, row.attempt, RESERVED, {"token": token})
            self._note(connection, row.key, row.attempt, PERMITTED, permission.document(permitted.decision))
            return permitted

    def wanted_cancelled(self, key: str, owner: Owner) -> bool:
        """True if somebody asked to cancel it. Raises LeaseLost if another run has it now."""
        query = select(operations.c.owner, operations.c.cancel_requested).where(operations.c.key == key)
        with self._database.read() as connection:
            row = connection.execute(query).one()
        if row.owner != str(owner):
            raise lost(key)
        return bool(row.cancel_requested)

    def renew(self, key: str, owner: Owner) -> None:
        """Hold the claim for another lease. Raises LeaseLost if another run has it now."""
        self._change(key, owner, lease_until=self._database.now() + self.lease_seconds)

    def admit(self, key: str, owner: Owner, *, service: str, most: int) -> bool:
        """Whether it may be submitted now, so that no more than `most` of a service are out there at once.

        Others count that were submitted, or that were admitted for a run that is about to submit them. Asked again
        before each submission: a run that died in between has lost its place.

        Raises:
            LeaseLost: if another run has it now.
        """
        with self._database.write("operations") as connection:
            row = existing(connection, key)
            if row.owner != str(owner):
                raise lost(key)
            if busy(connection, service, besides=key, now=self._database.now()) >= most:
                return False
            self._note(connection, key, row.attempt, ADMITTED)
            return True

    def submitted(self, key: str, owner: Owner, handle: str, *, adopted: bool) -> None:
        self._change(
            key,
            owner,
            event="adopted" if adopted else "submitted",
            detail={"handle": handle},
            handle=handle,
            state=OperationState.RUNNING,
            submitted_at=self._database.now(),
        )

    def progressed(self, key: str, owner: Owner, progress: Document) -> None:
        self._change(key, owner, progress=progress)

    def observed(self, progress: Mapping[str, Document]) -> None:
        """How far operations are that no run holds, by key, as a watcher sees it."""
        free = (operations.c.state == OperationState.RUNNING) & operations.c.owner.is_(None)
        with self._database.write("operations") as connection:
            for key, document in progress.items():
                connection.execute(update(operations).where(operations.c.key == key, free).values(progress=document))

    def succeeded(self, key: str, owner: Owner, evidence: Document) -> None:
        """A long list of files in the evidence is kept apart: `Manifests.listed` has it."""
        shelved = Manifests(self._database).shelve(evidence)
        self._finish(key, owner, OperationState.SUCCEEDED, evidence=shelved, error=None)

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

    def request_cancel(self, key: str) -> bool:
        """Ask the run that holds it, or the next that claims it, to cancel; False if it has ended already."""
        with self._database.write("operations") as connection:
            row = existing(connection, key)
            if row.state.open and not row.cancel_requested:
                connection.execute(update(operations).where(operations.c.key == key).values(cancel_requested=True))
                self._note(connection, key, row.attempt, "cancel requested")
            return row.state.open

    def abandon(self, key: str, owner: Owner, reason: str) -> None:
        """A person's word that what was submitted is gone, where its service will never say: it has failed.

        Asked for again it is submitted anew, under a new token.

        Raises:
            LedgerError: if it has ended already, or a live run has it.
        """
        if self.claim(key, owner, redo=False) is None:
            raise LedgerError("only an operation that is open and that no live run holds can be given up", where=key)
        gone = OperationFailed(f"given up by a person: {reason}", where=key, next_step="start the flow again")
        self.failed(key, owner, gone, {"given up": reason})

    def expire(self, key: str) -> None:
        """What it made was deleted on purpose: asked for again, it is done again."""
        with self._database.write("operations") as connection:
            plans.expire(connection, key)

    def cleared(self, records: Collection[OperationRecord]) -> None:
        """What the jobs of these had left is gone; not written down of one that has begun again since."""
        with self._database.write("operations") as connection:
            for record in records:
                same = (operations.c.key == record.key) & (operations.c.attempt == record.attempt)
                here = update(operations).where(same, operations.c.cleared_at.is_(None))
                if connection.execute(here.values(cleared_at=self._database.now())).rowcount:
                    self._note(connection, record.key, record.attempt, "cleared")

    @contextmanager
    def _denials(
        self, operation: Operation[Request], *, site: Place | None, service: str = "", run_id: str | None = None
    ) -> Iterator[None]:
        """A refusal undoes what is being written, and is written down by itself."""
        _ = getattr(operation.request, "passages", None)  # may look at a disk: not while the database is locked
        try:
            yield
        except PolicyRefused as refusal:
            self._deny(operation, refusal, site=site, service=service, run_id=run_id)
            raise

    def _deny(
        self,
        operation: Operation[Request],
        refusal: PolicyRefused,
        *,
        site: Place | None,
        service: str,
        run_id: str | None,
    ) -> None:
        with self._database.write("audit") as connection:
            row = known(connection, operation.key)
            asked = permission.Asked(
                operation=operation,
                service=service or (row.service if row else ""),
                run_id=run_id or (row.run_id if row else None),
                site=site,
            )
            permission.deny(connection, asked, refusal, at=self._database.now())

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
            finished_at=self._database.now(),
            owner=None,
            lease_until=None,
        )

    def _change(
        self, key: str, claimed_by: Owner, *, event: str = "", detail: Document | None = None, **values: Any
    ) -> None:
        """Change the row if, and only if, `claimed_by` still holds it."""
        mine = (operations.c.key == key) & (operations.c.owner == str(claimed_by))
        attempt = operations.c.attempt
        with self._database.write("operations") as connection:
            if values:
                row = connection.execute(
                    update(operations).where(mine).values(**values).returning(attempt)
                ).one_or_none()
            else:
                row = connection.execute(select(attempt).where(mine)).one_or_none()
            if row is None:
                raise lost(key)
            if event:
                self._note(connection, key, row.attempt, event, detail)

    def _plan(
        self,
        connection: Connection,
        operation: Operation[Request],
        *,
        service: str,
        run_id: str | None,
        site: Place | None = None,
    ) -> OperationRecord:
        now = self._database.now()
        permission.ask(connection, operation, self._rules, site=site or operation.destination, at=now)
        return plans.plan(connection, operation, service=service, run_id=run_id, now=now)

    def _claim(
        self, connection: Connection, row: OperationRecord, owner: Owner, *, redo: bool, run_id: str | None
    ) -> OperationRecord | None:
        now = self._database.now()
        until = now + self.lease_seconds
        if not claims.claim(connection, row, owner, redo=redo, run_id=run_id, now=now, until=until):
            return None
        return existing(connection, row.key)

    def _note(self, connection: Connection, key: str, attempt: int, event: str, detail: Document | None = None) -> None:
        note(connection, key, attempt, event, detail, at=self._database.now())
