"""Cancelling operations: what was asked of the outside world is stopped there, and the answer is believed."""

from __future__ import annotations

import threading
import time

from orchestration.errors import Cancelled, ServiceUnavailable
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import CancelAnswer, Request, Service

PATIENCE_SECONDS = 20.0
"""How long the run that holds an operation gets to cancel it itself."""


def cancel(ledger: Ledger, key: str, service: Service[Request]) -> CancelAnswer:
    """Cancel one operation, through the run that holds it or, where that is dead, directly.

    `UNKNOWN` means that the service did not say: the next run of the scan finds out, and cancels what it finds.
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
        if ledger.operations.claim(key, owner, redo=False) is not None:
            return _cancel_claimed(ledger, key, owner, service)
        threading.Event().wait(0.1)
    return CancelAnswer.UNKNOWN


def _cancel_claimed(ledger: Ledger, key: str, owner: Owner, service: Service[Request]) -> CancelAnswer:
    record = ledger.operations.get(key)
    reason = Cancelled("cancelled on request", where=record.step)
    if record.token is None:
        ledger.operations.cancelled(key, owner, reason, {"cancel": "nothing had been submitted"})
        return CancelAnswer.CANCELLED
    try:
        answer = CancelAnswer.UNKNOWN if record.handle is None else service.cancel(record.handle)
    except ServiceUnavailable:
        answer = CancelAnswer.UNKNOWN
    if answer is CancelAnswer.CANCELLED:
        ledger.operations.cancelled(key, owner, reason, {"cancel": answer.value})
    else:
        ledger.operations.release(key, owner)
    return answer
