"""Cancelling operations: what was asked of the outside world is stopped there, and the answer is believed."""

from __future__ import annotations

import logging
import threading
import time
from typing import Generic, TypeVar

from orchestration.errors import Cancelled, InvalidInput, OperationFailed, PolicyRefused, ServiceUnavailable
from orchestration.ledger import Ledger
from orchestration.ledger.lease import Lease
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import CancelAnswer, Failed, Request, Running, Service, Status
from orchestration.ledger.waiting import backoff

R = TypeVar("R", bound=Request)

PATIENCE_SECONDS = 20.0
"""How long the run that holds an operation gets to cancel it itself."""

CONFIRM_SECONDS = 10.0
"""How long a service is asked again that has not confirmed."""

logger = logging.getLogger(__name__)


def cancel(ledger: Ledger, key: str, service: Service[R], request: R | None = None) -> CancelAnswer:
    """Cancel one operation, through the run that holds it or, where that is dead, directly.

    With its `request` the service can be asked how it ended, or whether it was submitted at all, and the operation is
    closed with that. `UNKNOWN` means that the service did not say: the next run of the scan finds out, and cancels
    what it finds.
    """
    if not ledger.operations.get(key).state.open:
        return CancelAnswer.ALREADY_FINISHED
    ledger.operations.request_cancel(key)
    owner = Owner.here()
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        record = ledger.operations.get(key)
        if not record.state.open:
            cancelled = record.state is OperationState.CANCELLED
            return CancelAnswer.CANCELLED if cancelled else CancelAnswer.ALREADY_FINISHED
        claimed = ledger.operations.claim(key, owner, redo=False)
        if claimed is not None:
            with Lease(lambda: ledger.operations.renew(key, owner), seconds=ledger.operations.lease_seconds):
                try:
                    return _Cancelling(ledger, claimed, owner, service, request).run()
                finally:
                    ledger.operations.release(key, owner)
        threading.Event().wait(0.1)
    return CancelAnswer.UNKNOWN


class _Cancelling(Generic[R]):
    """One operation, claimed only to end it."""

    def __init__(
        self, ledger: Ledger, record: OperationRecord, owner: Owner, service: Service[R], request: R | None
    ) -> None:
        self._rows = ledger.operations
        self._record = record
        self._owner = owner
        self._service = service
        self._request = request
        self._reason = Cancelled("cancelled on request", where=record.step)

    def run(self) -> CancelAnswer:
        """Ask until the service says how it ended, or it is clear that it does not say."""
        give_up = time.monotonic() + CONFIRM_SECONDS
        for delay in backoff():
            try:
                answer = self._once()
            except ServiceUnavailable as doubt:
                logger.warning("%s: the cancellation was not answered: %s", self._record.step, doubt.what)
                answer = CancelAnswer.UNKNOWN
            closed = not self._rows.get(self._record.key).state.open
            if closed or answer is CancelAnswer.REFUSED or self._nobody_to_ask() or time.monotonic() + delay > give_up:
                return answer
            threading.Event().wait(delay)
        return CancelAnswer.UNKNOWN

    def _nobody_to_ask(self) -> bool:
        """A submission in doubt of which nothing is known that the service could be asked about."""
        return self._record.handle is None and self._request is None

    def _once(self) -> CancelAnswer:
        handle = self._handle()
        if handle is None:
            return CancelAnswer.CANCELLED if self._never_submitted() else CancelAnswer.UNKNOWN
        try:
            answer = self._service.cancel(handle)
        except (OperationFailed, InvalidInput, PolicyRefused) as refusal:
            logger.warning("%s: the cancellation was refused: %s", self._record.step, refusal)
            answer = CancelAnswer.REFUSED
        if answer is CancelAnswer.CANCELLED:
            self._rows.cancelled(self._record.key, self._owner, self._reason, {"cancel": answer.value})
            return answer
        return self._close(self._poll(handle), answer)

    def _handle(self) -> str | None:
        if self._record.handle is not None or self._record.token is None or self._request is None:
            return self._record.handle
        found = self._service.find(self._request, self._record.token)
        if found is not None:
            self._rows.submitted(self._record.key, self._owner, found, adopted=True)
        return found

    def _never_submitted(self) -> bool:
        """Closed as cancelled if that is certain: no token was reserved, or the service knows nothing of it."""
        if self._record.token is not None and self._request is None:
            return False
        evidence = "nothing had been submitted"
        self._rows.cancelled(self._record.key, self._owner, self._reason, {"cancel": evidence})
        return True

    def _poll(self, handle: str) -> Status:
        if self._request is None:
            return Running()
        try:
            return self._service.poll(self._request, handle)
        except (OperationFailed, InvalidInput, PolicyRefused) as refusal:
            return Failed(error=refusal)

    def _close(self, status: Status, answer: CancelAnswer) -> CancelAnswer:
        """As the service says that it ended; `answer`, if it has not."""
        if isinstance(status, Running):
            return answer
        if not isinstance(status, Failed):
            self._rows.succeeded(self._record.key, self._owner, status.evidence)
            return CancelAnswer.ALREADY_FINISHED
        if isinstance(status.error, Cancelled):
            self._rows.cancelled(self._record.key, self._owner, self._reason, status.evidence)
            return CancelAnswer.CANCELLED
        self._rows.failed(self._record.key, self._owner, status.error, status.evidence)
        return CancelAnswer.ALREADY_FINISHED
