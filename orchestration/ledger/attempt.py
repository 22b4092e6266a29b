"""One claim on one operation, from the claim to a certain end; or to none, and then the operation stays open."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Generic, TypeVar

from orchestration.errors import (
    Cancelled,
    DeadlinePassed,
    InvalidInput,
    JobNotStarted,
    LedgerError,
    OperationFailed,
    PolicyRefused,
    ServiceUnavailable,
)
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, reached
from orchestration.ledger.lease import Lease
from orchestration.ledger.operation import Operation, OperationRecord, error_document, error_from
from orchestration.ledger.operations import Operations
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import (
    CancelAnswer,
    Failed,
    Limited,
    PollSchedule,
    Progress,
    Request,
    Resends,
    Running,
    Service,
    Status,
    Succeeded,
    site_of,
)
from orchestration.ledger.waiting import Awaited, Waiting, asked_again_in, backoff, pause_unless

R = TypeVar("R", bound=Request)
T = TypeVar("T")

logger = logging.getLogger(__name__)

PROGRESS_WRITE_SECONDS = 1.0
"""The ledger is told of progress no more often than this; listeners hear all of it."""

CANCEL_PATIENCE_SECONDS = 120.0
"""How long a service gets to confirm a cancellation before this run gives up and leaves the operation open."""

MOVE_SECONDS = 120.0
"""In which what is at a silent site is taken elsewhere, if that can be done without an answer at all."""

CANCELLING = "cancelling"
"""The event that tells why this project cancelled something at its service."""

ProgressListener = Callable[[str, Progress], None]

MayLeave = Callable[[float, float], bool]
"""Given the seconds since the submission and those of this wait: may it be waited for from elsewhere now?"""

_CERTAIN = (OperationFailed, InvalidInput, PolicyRefused)


@dataclass(kw_only=True)
class Attempt(Generic[R]):
    ledger: Ledger
    operation: Operation[R]
    service: Service[R]
    owner: Owner
    lease: Lease
    schedule: PollSchedule
    on_progress: ProgressListener | None
    may_leave: MayLeave | None = None
    moves_after: float | None = None
    _last: Progress = field(default_factory=Progress)
    _written: Progress | None = None
    _written_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.key = self.operation.key
        self.step = self.operation.step

    @property
    def rows(self) -> Operations:
        return self.ledger.operations

    def run(self, record: OperationRecord) -> OperationRecord:
        """The record of the success; everything else is raised."""
        try:
            return self._close(self._settle(record))
        except BaseException:
            # Mostly of no effect, as what ended holds no claim. Otherwise (a signal, a failure, Waiting) the next run
            # need not wait for the lease to lapse, and adopts what was submitted.
            self._release()
            raise

    def _settle(self, record: OperationRecord) -> Succeeded | Failed:
        ends_at = record.began_at + self.operation.deadline
        try:
            handle = record.handle or self._submit(record, ends_at)
        except JobNotStarted as proof:
            # Of all that a question about a submission in doubt can be answered with, only this ends the doubt.
            handle = Failed(error=proof)
        if isinstance(handle, Failed):
            return handle
        submitted_at = self.ledger.now() if record.handle is None else record.submitted_at or record.began_at
        return self._explained(self._await(handle, ends_at, submitted_at), record.attempt)

    def _submit(self, record: OperationRecord, ends_at: float) -> str | Failed:
        """Token first, in the ledger; then what the service already knows under it; only then the submission."""
        token = record.token
        if token is None:
            if record.cancel_requested:
                return self._not_wanted()
            try:
                self._insist(self._admitted, ends_at)
                reached(Boundary.BEFORE_RESERVE, self.step)
                token = self._insist(lambda: self.service.reserve(f"{self.key}-{record.attempt}"), ends_at)
            except Cancelled:
                return self._not_wanted()
            except _CERTAIN as refusal:
                return Failed(error=refusal)
            return self._submit_new(token, ends_at, reserved=token)
        if (known := self._find(token, ends_at)) is not None:
            self.rows.submitted(self.key, self.owner, known, adopted=True)
            return known
        return self._submit_new(token, ends_at)

    def _admitted(self) -> None:
        """Raises ServiceUnavailable while the service has as many of our operations as it takes."""
        most = self.service.sessions if isinstance(self.service, Limited) else None
        if most is not None and not self.rows.admit(self.key, self.owner, service=self.service.name, most=most):
            raise ServiceUnavailable(f"{most} of ours are at {self.service.name}, which are all that it takes at once")

    def _submit_new(self, token: str, ends_at: float, *, reserved: str | None = None) -> str | Failed:
        """The service knows nothing of this token when this is called, and each time the loop begins again. It may have
        been `reserved` so lately that the ledger does not know it yet.
        """
        delays = backoff()
        while True:
            handle: str | None
            try:
                permitted = self.rows.permitted(self.operation, self.owner, token=reserved, site=site_of(self.service))
                if permitted is None:
                    return self._not_wanted()
                reserved = None
                reached(Boundary.BEFORE_SUBMIT, self.step)
                handle, adopted = self.service.submit(permitted, token), False
            except ServiceUnavailable as doubt:
                # It may have acted and the answer was lost: it is asked before anything is submitted again.
                self.rows.noted(self.key, self.owner, "in doubt", {"why": doubt.sentence})
                self._hold_on(doubt, next(delays), ends_at)
                handle, adopted = self._find(token, ends_at), True
            except _CERTAIN as refusal:
                return Failed(error=refusal)
            if handle is not None:
                reached(Boundary.AFTER_SUBMIT, self.step)
                self.rows.submitted(self.key, self.owner, handle, adopted=adopted)
                return handle

    def _find(self, token: str, ends_at: float) -> str | None:
        reached(Boundary.BEFORE_FIND, self.step)
        return self._insist(lambda: self._known(token), ends_at)

    def _known(self, token: str) -> str | None:
        try:
            return self.service.find(self.operation.request, token)
        except ServiceUnavailable as silence:
            if not isinstance(self.service, Resends):
                raise
            return self._known_by_sending(self.service, token, silence)

    def _known_by_sending(self, service: Resends[R], token: str, silence: ServiceUnavailable) -> str | None:
        """Where it may not be sent (any more), or that tells nothing, what may be there already stays in doubt."""
        try:
            permitted = self.rows.permitted(self.operation, self.owner, site=site_of(service))
            if permitted is not None:
                return service.find_by_sending(permitted, token)
        except (ServiceUnavailable, PolicyRefused) as untold:
            raise silence from untold
        raise silence

    def _await(self, handle: str, ends_at: float, submitted_at: float) -> Succeeded | Failed:
        began = answered_at = time.monotonic()
        delays = backoff()
        while True:
            self.lease.check()
            status = self._poll(handle)
            if isinstance(status, Succeeded | Failed):
                return status
            if isinstance(status, ServiceUnavailable):
                wait = asked_again_in(status, next(delays))
            else:
                delays, answered_at = backoff(), time.monotonic()
                wait = self.schedule.interval(time.monotonic() - began)
            if self._cancel_requested():
                return self._cancel(handle, self._on_request())
            left = ends_at - self.ledger.now()
            if left < 0:
                return self._cancel(handle, self._late("it did not end"))
            if self._can_be_left(status, answered_at) and self._leaves(submitted_at, began):
                raise Waiting({self.key: Awaited(until=ends_at, may_move=self.moves_after is not None)})
            pause_unless(self._cancel_requested, min(wait, left + 0.01), self.step)

    def _can_be_left(self, status: Running | ServiceUnavailable, answered_at: float) -> bool:
        """A silent service tells a watcher as much as this run; who would go elsewhere has to see the silence."""
        if isinstance(status, Running):
            return not status.needs_care
        return self.moves_after is None or time.monotonic() - answered_at > self.moves_after + MOVE_SECONDS

    def _leaves(self, submitted_at: float, began: float) -> bool:
        """Whether the run may go away while this goes on; written down, for the history to tell why nobody held it."""
        if self.may_leave is None or not self.may_leave(self.ledger.now() - submitted_at, time.monotonic() - began):
            return False
        self.rows.noted(self.key, self.owner, "left waiting", {})
        return True

    def _poll(self, handle: str) -> Status | ServiceUnavailable:
        try:
            status = self.service.poll(self.operation.request, handle)
        except ServiceUnavailable as doubt:
            self._tell(replace(self._last, note=doubt.what))
            return doubt
        except _CERTAIN as refusal:
            return Failed(error=refusal)
        if isinstance(status, Running):
            self._tell(status.progress)
        return status

    def _cancel(self, handle: str, reason: Cancelled | DeadlinePassed) -> Succeeded | Failed:
        """Stop it at the service, and believe the service about how it ended.

        Raises:
            Cancelled, DeadlinePassed: the reason, if the service does not confirm; what goes on there stays open here.
        """
        self.rows.noted(self.key, self.owner, CANCELLING, error_document(reason))
        reached(Boundary.BEFORE_CANCEL, self.step)
        give_up = self.ledger.now() + CANCEL_PATIENCE_SECONDS
        delays = backoff()
        while True:
            answer = self._ask_to_cancel(handle)
            if answer is CancelAnswer.CANCELLED:
                return Failed(error=reason, evidence={"cancel": answer.value})
            status = self._poll(handle)
            if isinstance(status, Succeeded | Failed):
                return status
            delay = next(delays)
            if self.ledger.now() + delay > give_up:
                raise self._unconfirmed(reason, answer)
            pause_unless(self._lost_already, delay, self.step)

    def _explained(self, status: Succeeded | Failed, attempt: int) -> Succeeded | Failed:
        """The service only knows that it was cancelled; if we did that, perhaps before a crash, we know why."""
        if isinstance(status, Succeeded) or not isinstance(status.error, Cancelled):
            return status
        for event in reversed(self.rows.history(self.key)):
            if event.attempt == attempt and event.event == CANCELLING and event.detail is not None:
                return replace(status, error=error_from(event.detail))
        return status

    def _ask_to_cancel(self, handle: str) -> CancelAnswer:
        try:
            return self.service.cancel(handle)
        except ServiceUnavailable as doubt:
            logger.warning("%s: the cancellation was not answered: %s", self.step, doubt.what)
            return CancelAnswer.UNKNOWN
        except _CERTAIN as refusal:
            logger.warning("%s: the cancellation was refused: %s", self.step, refusal)
            return CancelAnswer.REFUSED

    def _unconfirmed(self, reason: Cancelled | DeadlinePassed, answer: CancelAnswer) -> Cancelled | DeadlinePassed:
        self.rows.noted(self.key, self.owner, "cancel not confirmed", {"cancel": answer.value})
        return type(reason)(
            f"{reason.what}; {self.service.name} did not confirm that it was cancelled, and it may still go on",
            where=self.step,
            next_step="look at the service, then start the flow again: it finds out how this ended",
        )

    def _insist(self, ask: Callable[[], T], ends_at: float) -> T:
        """Ask something harmless until it is answered, the operation's time is over, or it is not wanted any more.

        Raises:
            Cancelled, DeadlinePassed: what may have been submitted stays open.
        """
        delays = backoff()
        while True:
            try:
                return ask()
            except ServiceUnavailable as doubt:
                if self._cancel_requested():
                    raise self._unconfirmed(self._on_request(), CancelAnswer.UNKNOWN) from doubt
                self._hold_on(doubt, next(delays), ends_at)

    def _hold_on(self, doubt: ServiceUnavailable, delay: float, ends_at: float) -> None:
        """Until it may be asked again; at the very end of the operation's time it is asked once more."""
        left = ends_at - self.ledger.now()
        if left <= 0:
            raise self._late(f"{self.service.name} did not answer ({doubt.what})") from doubt
        wait = min(asked_again_in(doubt, delay), left)
        self._tell(replace(self._last, note=doubt.what))
        logger.warning("%s: %s; asked again in %.1f s", self.step, doubt.what, wait)
        pause_unless(self._cancel_requested, wait, self.step)

    def _cancel_requested(self) -> bool:
        self.lease.check()
        return self.rows.wanted_cancelled(self.key, self.owner)

    def _lost_already(self) -> bool:
        self.lease.check()
        return False

    def _on_request(self) -> Cancelled:
        return Cancelled("cancelled on request", where=self.step)

    def _not_wanted(self) -> Failed:
        return Failed(error=Cancelled("cancelled before anything was submitted", where=self.step))

    def _late(self, what: str) -> DeadlinePassed:
        return DeadlinePassed(
            f"{what} within {self.operation.deadline:.0f} s",
            where=self.step,
            next_step="look at the service, then start the flow again: it carries on where it stopped",
        )

    def _tell(self, progress: Progress) -> None:
        self._last = progress
        if self.on_progress is not None:
            self._tell_listener(self.on_progress, progress)
        if progress != self._written and time.monotonic() - self._written_at >= PROGRESS_WRITE_SECONDS:
            self.rows.progressed(self.key, self.owner, asdict(progress))
            self._written, self._written_at = progress, time.monotonic()

    def _tell_listener(self, listener: ProgressListener, progress: Progress) -> None:
        try:
            listener(self.step, progress)
        except Exception:
            # It only watches, and what it watches goes on: a page that cannot be drawn fails no transfer.
            logger.exception("%s: the progress could not be shown", self.step)

    def _close(self, status: Succeeded | Failed) -> OperationRecord:
        if isinstance(status, Succeeded):
            self.rows.succeeded(self.key, self.owner, status.evidence)
            return self.rows.get(self.key)
        close = self.rows.cancelled if isinstance(status.error, Cancelled) else self.rows.failed
        close(self.key, self.owner, status.error, status.evidence)
        raise status.error

    def _release(self) -> None:
        try:
            self.rows.release(self.key, self.owner)
        except LedgerError:
            logger.exception("%s: the claim could not be given back; it lapses with its lease", self.step)
