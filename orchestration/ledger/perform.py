"""`perform`: the one way in which this project acts on the outside world.

It writes down what it is about to ask before it asks, asks the service whether it already knows before it asks again,
and returns only when the end is certain. A process may be killed at any line of it, and any answer of the service may
be lost: calling it again with the same operation carries on, and the effect happens once.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TypeVar

from orchestration.errors import Cancelled
from orchestration.ledger import Ledger
from orchestration.ledger.attempt import Attempt, MayLeave, ProgressListener
from orchestration.ledger.claims import held
from orchestration.ledger.lease import Lease
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import BulkService, Document, PollSchedule, Request, Service, site_of
from orchestration.ledger.waiting import pause

__all__ = ["MayLeave", "Outcome", "ProgressListener", "perform"]

R = TypeVar("R", bound=Request)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A checked success."""

    record: OperationRecord
    evidence: Document
    already_done: bool
    """It had been done before this call, or another run did it while this one waited."""


def perform(
    ledger: Ledger,
    operation: Operation[R],
    service: Service[R],
    *,
    run_id: str | None = None,
    schedule: PollSchedule | None = None,
    on_progress: ProgressListener | None = None,
    may_leave: MayLeave | None = None,
    moves_after: float | None = None,
    redo: bool = True,
) -> Outcome:
    """Do the operation exactly once and return its checked outcome.

    If another live run has it, wait for that one and take its outcome. If it was done, return what came of it. If an
    earlier attempt ended badly, make another, unless `redo` is false: then how it ended is the answer, for a run that
    had been waiting for just that. What ends without a certain answer stays open in the ledger, whatever is raised
    here: called again, it carries on where it stopped.

    `may_leave` is asked after each poll that finds the operation going on, with the seconds since its submission and
    the seconds of this wait, if its service is one that can be waited for from elsewhere (`BulkService`). It is asked
    while the service is silent, too; but not before the caller had time to take the operation elsewhere, if it is one
    that does so when its site was silent for `moves_after` seconds.

    Raises:
        PolicyRefused: before anything is asked, if the data may not go there.
        OperationFailed: (one of its subclasses) when the service's no is certain.
        DeadlinePassed: when it did not end in time; it was cancelled, or stays open if the service does not say so.
        Cancelled: when somebody cancelled it, or this run.
        LeaseLost: when another run has taken over (this process was thought dead).
        NameTaken: when it is to be the only one of its step, and is not; nothing was begun.
        Waiting: (no error) when `may_leave` said yes; the operation goes on, and nobody holds it.
    """
    owner = Owner.here()
    schedule = schedule or PollSchedule()
    while True:
        claimed = ledger.operations.take(
            operation, owner, service=service.name, site=site_of(service), redo=redo, run_id=run_id
        )
        if claimed is not None:
            break
        record = ledger.operations.get(operation.key)
        if record.state is OperationState.EXPIRED:
            redo = True  # the other run did it, and the result was deleted before this one looked
        elif not record.state.open:
            return _outcome(record)
        else:
            redo = False  # what the other run ends with is the answer, good or bad
            _wait_for_other(ledger, record, schedule, run_id)
    with Lease(lambda: ledger.operations.renew(operation.key, owner), seconds=ledger.operations.lease_seconds) as lease:
        attempt = Attempt(
            ledger=ledger,
            operation=operation,
            service=service,
            owner=owner,
            lease=lease,
            schedule=schedule,
            on_progress=on_progress,
            may_leave=may_leave if isinstance(service, BulkService) else None,
            moves_after=moves_after,
        )
        done = attempt.run(claimed)
    return Outcome(record=done, evidence=done.evidence or {}, already_done=False)


def _outcome(record: OperationRecord) -> Outcome:
    if record.state is OperationState.SUCCEEDED:
        return Outcome(record=record, evidence=record.evidence or {}, already_done=True)
    raise record.error or Cancelled("the operation was ended by another run", where=record.step)


def _wait_for_other(ledger: Ledger, record: OperationRecord, schedule: PollSchedule, run_id: str | None) -> None:
    """Until the other run's claim ends or lapses, or its outcome is there; checked at the pace of a poll."""
    began = time.monotonic()
    logger.info("%s: another run has it; waiting for that one", record.step)
    while record.state.open and held(record, ledger.now()):
        pause(schedule.interval(time.monotonic() - began), record.step)
        if run_id is not None:
            ledger.runs.demand_wanted(run_id)
        record = ledger.operations.get(record.key)
