"""Operations that nobody holds any more: how they ended is written down, though nobody waits for it."""

from __future__ import annotations

import enum
import logging
from typing import TypeVar

from orchestration.errors import Cancelled, InvalidInput, OperationFailed, PolicyRefused
from orchestration.ledger import Ledger
from orchestration.ledger.lease import Lease
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import Failed, Request, Running, Service, Status

R = TypeVar("R", bound=Request)

logger = logging.getLogger(__name__)


class Fate(enum.StrEnum):
    """What was found out about an orphan."""

    ENDED = "ended"
    """Its outcome is in the ledger now: whoever asks for it again gets that."""
    GOES_ON = "goes on"
    NEVER_BEGAN = "was never asked for"
    """The next run of its scan asks for it."""
    CANCELLED = "cancelled"
    """It went on for longer than it was asked for, or nobody wanted it any more."""
    HELD = "is held"
    """Somebody has taken it up meanwhile."""
    UNKNOWN = "unknown"


def adopt(ledger: Ledger, record: OperationRecord, service: Service[R], request: R) -> Fate:
    """Look once how an operation without a run stands, and close it if it has ended.

    Raises:
        ServiceUnavailable: if its service does not say.
    """
    owner = Owner.here()
    claimed = ledger.operations.claim(record.key, owner, redo=False)
    if claimed is None:
        return Fate.HELD
    with Lease(lambda: ledger.operations.renew(record.key, owner), seconds=ledger.operations.lease_seconds):
        try:
            return _settle(ledger, claimed, owner, service, request)
        finally:
            ledger.operations.release(record.key, owner)


def withdraw(ledger: Ledger, record: OperationRecord) -> Fate:
    """Close an operation that nobody will come back to, if nothing was ever asked of its service: it has no token."""
    owner = Owner.here()
    claimed = ledger.operations.claim(record.key, owner, redo=False)
    if claimed is None:
        return Fate.HELD
    if claimed.token is not None:
        ledger.operations.release(record.key, owner)
        return Fate.HELD
    reason = Cancelled(
        "its run ended before anything was asked for",
        where=record.step,
        next_step="nothing: whoever needs it asks for it again",
    )
    ledger.operations.cancelled(record.key, owner, reason, {"cancel": "nothing had been submitted"})
    return Fate.CANCELLED


def _settle(ledger: Ledger, record: OperationRecord, owner: Owner, service: Service[R], request: R) -> Fate:
    handle = record.handle
    if handle is None:
        handle = None if record.token is None else service.find(request, record.token)
        if handle is None:
            return Fate.NEVER_BEGAN
        ledger.operations.submitted(record.key, owner, handle, adopted=True)
    status = _status(service, request, handle)
    if isinstance(status, Running):
        return Fate.GOES_ON
    if isinstance(status, Failed):
        rows = ledger.operations
        close = rows.cancelled if isinstance(status.error, Cancelled) else rows.failed
        close(record.key, owner, status.error, status.evidence)
    else:
        ledger.operations.succeeded(record.key, owner, status.evidence)
    logger.info("%s: ended while nobody waited for it", record.step)
    return Fate.ENDED


def _status(service: Service[R], request: R, handle: str) -> Status:
    try:
        return service.poll(request, handle)
    except (OperationFailed, InvalidInput, PolicyRefused) as refusal:
        return Failed(error=refusal)
