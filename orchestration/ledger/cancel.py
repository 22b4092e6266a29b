"""Cancelling operations: what was asked of the outside world is stopped there, and the answer is believed."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestration.errors import Cancelled, InvalidInput, OperationFailed, PolicyRefused, ServiceUnavailable
from orchestration.ledger import Ledger
from orchestration.ledger.lease import Lease
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import (
    CancelAnswer,
    Document,
    Failed,
    Immediate,
    Request,
    Running,
    Service,
    Status,
)
from orchestration.ledger.waiting import asked_again_in, backoff

R = TypeVar("R", bound=Request)

PATIENCE_SECONDS = 20.0
"""How long the run that holds an operation gets to cancel it itself."""

CONFIRM_SECONDS = 10.0
"""How long a service is asked again that has not confirmed."""

LOOK_SECONDS = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    answer: CancelAnswer
    why: str = ""
    """What keeps the service from having confirmed it, as far as it is known."""


def cancel(
    ledger: Ledger, key: str, service: Service[R], request: R | None = None, *, settle_seconds: float = 0.0
) -> Cancellation:
    """Cancel one operation, through the run that holds it or, where that is dead, directly.

    With its `request` the service can be asked how it ended, or whether it was submitted at all, and the operation is
    closed with that. For `settle_seconds` the service may not know yet of a submission of which the answer was lost:
    it is asked for at least so long. `UNKNOWN` means that it did not say: it has to be asked again.
    """
    if not ledger.operations.get(key).state.open:
        return Cancellation(answer=CancelAnswer.ALREADY_FINISHED)
    ledger.operations.request_cancel(key)
    owner = Owner.here()
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        record = ledger.operations.get(key)
        if not record.state.open:
            cancelled = record.state is OperationState.CANCELLED
            return Cancellation(answer=CancelAnswer.CANCELLED if cancelled else CancelAnswer.ALREADY_FINISHED)
        claimed = ledger.operations.claim(key, owner, redo=False)
        if claimed is not None:
            with Lease(lambda: ledger.operations.renew(key, owner), seconds=ledger.operations.lease_seconds):
                try:
                    return _Cancelling(ledger, claimed, owner, service, request, settle_seconds).run()
                finally:
                    ledger.operations.release(key, owner)
        threading.Event().wait(LOOK_SECONDS)
    return Cancellation(answer=CancelAnswer.UNKNOWN, why="the run that has it does not give it up")


class _Cancelling(Generic[R]):
    """One operation, claimed only to end it."""

    def __init__(
        self,
        ledger: Ledger,
        record: OperationRecord,
        owner: Owner,
        service: Service[R],
        request: R | None,
        settle_seconds: float,
    ) -> None:
        self._rows = ledger.operations
        self._record = record
        self._owner = owner
        self._service = service
        self._request = request
        self._reason = Cancelled("cancelled on request", where=record.step)
        in_doubt = record.handle is None and record.token is not None
        self._patience = CONFIRM_SECONDS + (settle_seconds if in_doubt else 0.0)

    def run(self) -> Cancellation:
        """Ask until the service says how it ended, or it is clear that it does not say."""
        give_up = time.monotonic() + self._patience
        delays = backoff()
        while True:
            said, wait = self._ask(next(delays))
            left = give_up - time.monotonic()
            over = not self._rows.get(self._record.key).state.open
            if over or said.answer is CancelAnswer.REFUSED or self._nobody_to_ask or left <= 0:
                return said
            threading.Event().wait(min(wait, left))

    @property
    def _nobody_to_ask(self) -> bool:
        """A submission in doubt of which nothing is known that the service could be asked about."""
        return self._record.handle is None and self._request is None

    def _ask(self, delay: float) -> tuple[Cancellation, float]:
        """What it said, and after how many seconds it is asked again."""
        try:
            return self._once(), delay
        except ServiceUnavailable as doubt:
            logger.warning("%s: the cancellation was not answered: %s", self._record.step, doubt.what)
            return Cancellation(answer=CancelAnswer.UNKNOWN, why=doubt.what), asked_again_in(doubt, delay)

    def _once(self) -> Cancellation:
        handle = self._handle()
        if handle is None:
            return self._without_handle()
        said = self._ask_to_cancel(handle)
        if said.answer is CancelAnswer.CANCELLED:
            self._cancelled({"cancel": said.answer.value})
            return said
        return self._close(self._poll(handle), said)

    def _ask_to_cancel(self, handle: str) -> Cancellation:
        try:
            return Cancellation(answer=self._service.cancel(handle))
        except (OperationFailed, InvalidInput, PolicyRefused) as refusal:
            logger.warning("%s: the cancellation was refused: %s", self._record.step, refusal)
            return Cancellation(answer=CancelAnswer.REFUSED, why=refusal.what)

    def _handle(self) -> str | None:
        if self._record.handle is not None or self._record.token is None or self._request is None:
            return self._record.handle
        found = self._service.find(self._request, self._record.token)
        if found is not None:
            self._rows.submitted(self._record.key, self._owner, found, adopted=True)
        return found

    def _without_handle(self) -> Cancellation:
        """Cancelled if it is certain that nothing goes on: no token was reserved, the service knows nothing of it, or
        does nothing that nobody waits for.
        """
        if self._record.token is None or self._request is not None:
            self._cancelled({"cancel": "nothing had been submitted"})
        elif isinstance(self._service, Immediate):
            self._cancelled({"cancel": "nothing goes on there"})
        else:
            return Cancellation(answer=CancelAnswer.UNKNOWN, why="what was asked for cannot be read back any more")
        return Cancellation(answer=CancelAnswer.CANCELLED)

    def _poll(self, handle: str) -> Status:
        if self._request is None:
            return Running()
        try:
            return self._service.poll(self._request, handle)
        except (OperationFailed, InvalidInput, PolicyRefused) as refusal:
            return Failed(error=refusal)

    def _close(self, status: Status, said: Cancellation) -> Cancellation:
        """As the service says that it ended; what it `said`, if it has not."""
        if isinstance(status, Running):
            finished = said.answer is CancelAnswer.ALREADY_FINISHED and self._request is None
            if finished and isinstance(self._service, Immediate):
                # It was done, and cannot be checked any more: who asks for it again finds it, and checks it.
                self._cancelled({"cancel": said.answer.value})
            return said
        if not isinstance(status, Failed):
            self._rows.succeeded(self._record.key, self._owner, status.evidence)
        elif isinstance(status.error, Cancelled):
            self._cancelled(status.evidence)
            return Cancellation(answer=CancelAnswer.CANCELLED)
        else:
            self._rows.failed(self._record.key, self._owner, status.error, status.evidence)
        return Cancellation(answer=CancelAnswer.ALREADY_FINISHED)

    def _cancelled(self, evidence: Document) -> None:
        self._rows.cancelled(self._record.key, self._owner, self._reason, evidence)
