"""`perform`: the one way in which this project acts on the outside world.

It writes down what it is about to ask before it asks, asks the service whether it already knows before it asks again,
and returns only when the end is certain. A process may be killed at any line of it, and any answer of the service may
be lost: calling it again with the same operation carries on, and the effect happens once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

from orchestration.errors import (
    Cancelled,
    DeadlinePassed,
    InvalidInput,
    OperationFailed,
    PolicyRefused,
    ServiceUnavailable,
)
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, reached
from orchestration.ledger.lease import Lease
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import (
    CancelAnswer,
    Document,
    Failed,
    PollSchedule,
    Progress,
    Request,
    Running,
    Service,
    Status,
    Succeeded,
)

R = TypeVar("R", bound=Request)
T = TypeVar("T")

logger = logging.getLogger(__name__)

PROGRESS_WRITE_SECONDS = 1.0
"""The ledger is told of progress no more often than this; listeners hear all of it."""

CANCEL_PATIENCE_SECONDS = 120.0
"""How long a service may be silent about a cancellation before its outcome is recorded as unknown."""

ProgressListener = Callable[[str, Progress], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A checked success."""

    record: OperationRecord
    evidence: Document
    already_done: bool
    """It had been done before this call."""


def perform(
    ledger: Ledger,
    operation: Operation[R],
    service: Service[R],
    *,
    run_id: str | None = None,
    schedule: PollSchedule | None = None,
    on_progress: ProgressListener | None = None,
) -> Outcome:
    """Do the operation exactly once and return its checked outcome.

    If another live run has it, wait for that one and take its outcome. If it was done, return what came of it. If an
    earlier attempt ended badly, make another.

    Raises:
        PolicyRefused: before anything is asked, if the data may not go there.
        OperationFailed: (one of its subclasses) when the service's no is certain.
        DeadlinePassed: when it did not end in time; it was cancelled.
        Cancelled: when somebody cancelled it.
        LeaseLost: when another run has taken over (this process was thought dead).
    """
    owner = Owner.here()
    schedule = schedule or PollSchedule()
    record = ledger.operations.plan(operation, service=service.name, run_id=run_id)
    redo = True
    while True:
        claimed = ledger.operations.claim(operation.key, owner, redo=redo, run_id=run_id)
        if claimed is not None:
            break
        record = ledger.operations.get(operation.key)
        if not record.state.open:
            return _outcome(record, already_done=True)
        redo = False  # what the other run ends with is the answer, good or bad
        _wait_for_other(ledger, record, schedule)
    with Lease(lambda: ledger.operations.renew(operation.key, owner), seconds=ledger.operations.lease_seconds) as lease:
        attempt = _Attempt(ledger, operation, service, owner, lease, schedule, on_progress)
        return attempt.run(claimed)


def _outcome(record: OperationRecord, *, already_done: bool) -> Outcome:
    if record.state is OperationState.SUCCEEDED:
        return Outcome(record=record, evidence=record.evidence or {}, already_done=already_done)
    raise record.error or Cancelled("the operation was ended by another run", where=record.step)


def _wait_for_other(ledger: Ledger, record: OperationRecord, schedule: PollSchedule) -> None:
    """Until the other run's claim ends or lapses, or its outcome is there; checked at the pace of a poll."""
    waited = time.monotonic()
    logger.info("%s: another run has it; waiting for that one", record.step)
    while True:
        _pause(schedule.interval(time.monotonic() - waited), record.step)
        now = ledger.operations.get(record.key)
        if not now.state.open or now.owner is None or Owner.parse(now.owner).certainly_dead():
            return
        if now.lease_until is not None and now.lease_until < time.time():
            return


def _pause(seconds: float, step: str) -> None:
    reached(Boundary.IN_WAIT, step)
    threading.Event().wait(seconds)


class _Attempt(Generic[R]):
    """One claim on one operation, from here to its end."""

    def __init__(
        self,
        ledger: Ledger,
        operation: Operation[R],
        service: Service[R],
        owner: Owner,
        lease: Lease,
        schedule: PollSchedule,
        on_progress: ProgressListener | None,
    ) -> None:
        self.rows = ledger.operations
        self.operation = operation
        self.key = operation.key
        self.step = operation.step
        self.service = service
        self.owner = owner
        self.lease = lease
        self.schedule = schedule
        self.on_progress = on_progress
        self._told_at = 0.0
        self._told: Progress | None = None

    def run(self, record: OperationRecord) -> Outcome:
        try:
            status = self._settle(record)
        except BaseException:
            # Nothing is known to have ended: the next run adopts what was submitted.
            self.rows.release(self.key, self.owner)
            raise
        return self._close(status)

    def _settle(self, record: OperationRecord) -> Succeeded | Failed:
        ends_at = record.began_at + self.operation.deadline
        try:
            handle = record.handle or self._submit(record, ends_at)
            return self._await(handle, record, ends_at)
        except (OperationFailed, InvalidInput, PolicyRefused) as refusal:
            # A certain no, raised by the service instead of returned, or a deadline that passed here.
            return Failed(error=refusal)

    def _submit(self, record: OperationRecord, ends_at: float) -> str:
        """Token first, in the ledger; then what the service already knows under it; only then the submission."""
        token = record.token
        if token is None:
            reached(Boundary.BEFORE_RESERVE, self.step)
            token = self._insist(lambda: self.service.reserve(f"{self.key}-{record.attempt}"), ends_at)
            self.rows.reserved(self.key, self.owner, token)
        elif (known := self._find(token, ends_at)) is not None:
            self.rows.submitted(self.key, self.owner, known, adopted=True)
            return known
        if self.rows.get(self.key).cancel_requested:
            raise Cancelled("cancelled before anything was submitted", where=self.step)
        return self._submit_new(token, ends_at)

    def _find(self, token: str, ends_at: float) -> str | None:
        reached(Boundary.BEFORE_FIND, self.step)
        return self._insist(lambda: self.service.find(self.operation.request, token), ends_at)

    def _submit_new(self, token: str, ends_at: float) -> str:
        delays = _backoff()
        while True:
            reached(Boundary.BEFORE_SUBMIT, self.step)
            try:
                handle, adopted = self.service.submit(self.operation.request, token), False
            except ServiceUnavailable as doubt:
                # It may have acted and the answer was lost: it is asked before anything is submitted again.
                self.rows.noted(self.key, self.owner, "in doubt", {"why": doubt.sentence})
                self._hold_on(doubt, next(delays), ends_at)
                found = self._find(token, ends_at)
                if found is None:
                    continue
                handle, adopted = found, True
            reached(Boundary.AFTER_SUBMIT, self.step)
            self.rows.submitted(self.key, self.owner, handle, adopted=adopted)
            return handle

    def _await(self, handle: str, record: OperationRecord, ends_at: float) -> Succeeded | Failed:
        began = time.monotonic()
        delays = _backoff()
        while True:
            self.lease.check()
            status = self._poll(handle, delays, ends_at)
            if isinstance(status, Succeeded | Failed):
                return status
            if status is not None:
                delays = _backoff()
                self._tell(status.progress)
            if self.rows.get(self.key).cancel_requested:
                return self._cancel(handle, Cancelled("cancelled on request", where=self.step))
            if time.time() > ends_at:
                late = self._late("it did not end")
                return self._cancel(handle, late)
            _pause(self.schedule.interval(time.monotonic() - began), self.step)

    def _poll(self, handle: str, delays: Iterator[float], ends_at: float) -> Status | None:
        """None: the service did not answer; it was waited for."""
        try:
            return self.service.poll(self.operation.request, handle)
        except ServiceUnavailable as doubt:
            self._tell(Progress(note=doubt.what))
            delay = doubt.retry_after or next(delays)
            _pause(min(delay, max(0.0, ends_at - time.time())), self.step)
            return None

    def _cancel(self, handle: str, reason: Cancelled | DeadlinePassed) -> Succeeded | Failed:
        """Stop it at the service, and believe the service about how it ended."""
        reached(Boundary.BEFORE_CANCEL, self.step)
        patience = time.time() + CANCEL_PATIENCE_SECONDS
        answer = self._insist(lambda: self.service.cancel(handle), patience)
        if answer is CancelAnswer.ALREADY_FINISHED:
            final = self._insist(lambda: self.service.poll(self.operation.request, handle), patience)
            if not isinstance(final, Running):
                return final
        return Failed(error=reason, evidence={"cancel": answer.value})

    def _insist(self, ask: Callable[[], T], ends_at: float) -> T:
        """Ask something harmless until it is answered or the operation's time is over."""
        delays = _backoff()
        while True:
            try:
                return ask()
            except ServiceUnavailable as doubt:
                self._hold_on(doubt, next(delays), ends_at)

    def _hold_on(self, doubt: ServiceUnavailable, delay: float, ends_at: float) -> None:
        self.lease.check()
        delay = doubt.retry_after or delay
        if time.time() + delay > ends_at:
            raise self._late(f"{self.service.name} did not answer ({doubt.what})") from doubt
        self._tell(Progress(note=doubt.what))
        logger.warning("%s: %s; asked again in %.1f s", self.step, doubt.what, delay)
        _pause(delay, self.step)

    def _late(self, what: str) -> DeadlinePassed:
        return DeadlinePassed(
            f"{what} within {self.operation.deadline:.0f} s",
            where=self.step,
            next_step="look at the service, then start the flow again: it carries on where it stopped",
        )

    def _tell(self, progress: Progress) -> None:
        if self.on_progress is not None:
            self.on_progress(self.step, progress)
        if progress != self._told and time.monotonic() - self._told_at >= PROGRESS_WRITE_SECONDS:
            self.rows.progressed(self.key, self.owner, asdict(progress))
            self._told, self._told_at = progress, time.monotonic()

    def _close(self, status: Succeeded | Failed) -> Outcome:
        if isinstance(status, Succeeded):
            self.rows.succeeded(self.key, self.owner, status.evidence)
            return Outcome(record=self.rows.get(self.key), evidence=status.evidence, already_done=False)
        close = self.rows.cancelled if isinstance(status.error, Cancelled) else self.rows.failed
        close(self.key, self.owner, status.error, status.evidence)
        raise status.error


def _backoff() -> Iterator[float]:
    """Seconds to wait after each silence of a service: doubling from a fifth of a second to half a minute."""
    delay = 0.2
    while True:
        yield delay
        delay = min(30.0, 2 * delay)
