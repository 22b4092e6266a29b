"""Watching over work that was given to a site, until it has begun there; taking it back if the site goes down.

It is taken back only when it is certain that it will not begin: nothing was submitted, or the site confirms that the
job is cancelled, or the job's folder proves it (`Fence`). Without such a proof the site is waited for, however long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from orchestration.config import ComputeSite
from orchestration.errors import (
    JobLost,
    JobNotStarted,
    JobPreempted,
    LeaseLost,
    NodeFailed,
    OrchestrationError,
    ServiceUnavailable,
    TransferWithdrawn,
)
from orchestration.flows.looking import Watch
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger.attempt import CANCELLING
from orchestration.ledger.decisions import GIVEN
from orchestration.ledger.operation import Operation, error_document
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import (
    BulkService,
    CancelAnswer,
    Document,
    Failed,
    Progress,
    Request,
    Resends,
    Running,
    Service,
    Status,
    Succeeded,
    site_of,
)
from orchestration.policy import Permitted, Place
from orchestration.transfers import TransferRequest

T = TypeVar("T")

_DONE_AGAIN = (JobLost, NodeFailed, JobPreempted)
"""Endings after which a job is submitted again, here or elsewhere."""


class Gate(Protocol):
    """The beginning of the jobs of a site, as `orchestration.globus.fence.Fence` sees it. All may raise
    OrchestrationError for what cannot be told now.
    """

    def begun(self, token: str) -> bool:
        """Whether the job of this token has begun, or is over."""
        ...

    def shut(self, token: str) -> None:
        """Return once it is certain that it has not begun, and never will."""
        ...

    def stop(self, token: str) -> None:
        """Return once it is certain that it does not begin any more, and stops if it has begun."""
        ...


@dataclass(kw_only=True)
class Guard:
    """Stands between `perform` and the services that it asks, for the work of one run at one site."""

    work: Work
    site: ComputeSite
    watch: Watch
    gate: Gate | None = None
    subject: str = ""
    """Of the decision that gave the work to the site; empty if none did."""
    job: str | None = None
    """Key of the operation of the job, once it was come to."""

    def __call__(self, operation: Operation[Any], service: Service[Any]) -> Service[Any]:
        request = operation.request
        if isinstance(request, JobSpec):
            self.job = operation.key
            self._take_up(operation.key)
            return _kind(service)(service, guard=self, key=operation.key)
        if isinstance(request, TransferRequest) and request.destination.name == self.site.raw_endpoint and not self.job:
            return GuardedCopy(service, guard=self, key=operation.key)
        return service

    def trouble(self) -> str:
        """Why nothing more is to be begun at the site; empty if nothing is against it."""
        return self.watch.trouble() or self._elsewhere()

    def _elsewhere(self) -> str:
        newest = self.work.ledger.decisions.newest(self.subject) if self.subject else None
        if newest is None or newest.site == self.site.name:
            return ""
        return f"another run has given it to {newest.site or 'nobody'} instead of {self.site.name}"

    def _take_up(self, key: str) -> None:
        for record in self.work.ledger.operations.among([key]):
            if record.state.open:
                self.watch.heed(record.progress)


@dataclass(frozen=True)
class _Guarded:
    inner: Service[Any]
    guard: Guard = field(kw_only=True)
    key: str = field(kw_only=True)
    _written: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """The reason for which the work was taken back, once that is in the history of the operation."""

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def place(self) -> Place | None:
        return site_of(self.inner)

    def reserve(self, key: str) -> str:
        return self.inner.reserve(key)

    def find(self, request: Request, token: str) -> str | None:
        return self.inner.find(request, token)

    def cancel(self, handle: str) -> CancelAnswer:
        return self.inner.cancel(handle)

    def _write_down(self, reason: OrchestrationError) -> None:
        """Why it is cancelled, before it is: whoever reads of its end, perhaps after a crash, is told of this."""
        if not self._written:
            self._note(CANCELLING, error_document(reason))
            self._written.append(reason.what)

    def _note(self, event: str, detail: Document) -> None:
        rows = self.guard.work.ledger.operations
        holder = rows.get(self.key).owner  # the claim under which this is called
        if holder is None:
            raise LeaseLost("nobody holds this operation any more", where=self.key)
        rows.noted(self.key, Owner.parse(holder), event, detail)


class GuardedCopy(_Guarded):
    """The copy of the data to a site: of no use there if the site is down."""

    def submit(self, permitted: Permitted[Request], token: str) -> str:
        if trouble := self.guard.trouble():
            raise _given_up(trouble)
        return self.inner.submit(permitted, token)

    def poll(self, request: Request, handle: str) -> Status:
        status = self.inner.poll(request, handle)
        if not isinstance(status, Running):
            return status
        if trouble := self.guard.watch.trouble():
            self._write_down(_given_up(trouble))
            if self.inner.cancel(handle) is CancelAnswer.CANCELLED:
                return Failed(error=_given_up(trouble))
        return replace(status, needs_care=True)


@dataclass(frozen=True)
class GuardedJobs(_Guarded):
    """The jobs of a site."""

    _begun: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """Handles of jobs whose folder shows that they have begun."""

    def reserve(self, key: str) -> str:
        if trouble := self.guard.trouble():
            raise _not_begun(trouble)  # nothing was ever submitted under a token that there is not
        return self._asked(lambda: self.inner.reserve(key))

    def find(self, request: Request, token: str) -> str | None:
        try:
            return self._asked(lambda: self.inner.find(request, token))
        except ServiceUnavailable:
            trouble = self.guard.watch.trouble()
            if trouble and self._shut(token, trouble):
                raise _not_begun(trouble) from None
            raise

    def submit(self, permitted: Permitted[Request], token: str) -> str:
        """It is asked to submit only what is known not to have been."""
        if self.guard.subject:
            self._note(GIVEN, {"subject": self.guard.subject})  # before the decision is looked at: see `Decisions`
        if trouble := self.guard.trouble():
            raise _not_begun(trouble)
        return self._asked(lambda: self.inner.submit(permitted, token))

    def poll(self, request: Request, handle: str) -> Status:
        try:
            status = self._asked(lambda: self.inner.poll(request, handle))
        except ServiceUnavailable:
            if (trouble := self._trouble(handle)) and self._shut(self._token(), trouble, handle):
                return Failed(error=_not_begun(trouble))
            raise
        if not isinstance(status, Running):
            return self._certain(status)
        trouble = self._trouble(handle)
        if not trouble:
            return status  # a watcher, if it is left to one, looks at the site as well
        return self._withdrawn(request, handle, status, trouble)

    def _certain(self, status: Succeeded | Failed) -> Status:
        """A job that left no report must not turn up any more when it is done again, and perhaps elsewhere."""
        if isinstance(status, Succeeded) or not isinstance(status.error, _DONE_AGAIN):
            return status
        if status.evidence.get("reason") or self._stopped(status.error):
            return status
        note = f"{status.error.what}; it is not certain that it does not turn up again"
        return Running(progress=Progress(note=note), needs_care=True)

    def _stopped(self, reason: OrchestrationError) -> bool:
        token = self._token()
        if self.guard.gate is None or token is None:
            return True
        self._write_down(reason)
        try:
            self.guard.gate.stop(token)
        except OrchestrationError as error:
            self.guard.work.logger.warning("it is not certain that a job does not turn up again: %s", error.what)
            return False
        return True

    def _withdrawn(self, request: Request, handle: str, status: Running, trouble: str) -> Status:
        """How it stands once it was tried to take it back. A job that may have begun is not cancelled."""
        if not status.queued and not status.needs_care:
            return status  # the site knows, and says that it has begun
        if status.queued:
            answer = self._cancelled(handle, trouble)
            if answer is CancelAnswer.CANCELLED:
                return Failed(error=_not_begun(trouble), evidence={"cancel": answer.value})
            if answer is CancelAnswer.ALREADY_FINISHED:
                return self.inner.poll(request, handle)
        if self._shut(self._token(), trouble, handle):
            return Failed(error=_not_begun(trouble))
        note = f"{trouble}; it stays there, as it is not certain that it will not begin"
        begun = handle in self._begun
        return status if begun else replace(status, progress=replace(status.progress, note=note), needs_care=True)

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            found = ask()
        except ServiceUnavailable:
            self.guard.watch.unanswered()
            raise
        self.guard.watch.answered()
        return found

    def _trouble(self, handle: str) -> str:
        return "" if handle in self._begun else self.guard.watch.trouble()

    def _cancelled(self, handle: str, trouble: str) -> CancelAnswer:
        self._write_down(_not_begun(trouble))
        try:
            return self.inner.cancel(handle)
        except OrchestrationError as error:
            self.guard.work.logger.warning("%s did not cancel a job: %s", self.guard.site.name, error.what)
            return CancelAnswer.UNKNOWN

    def _shut(self, token: str | None, trouble: str, handle: str = "") -> bool:
        """Whether the folder of the job proves that it will not begin. One that has begun is left alone."""
        if self.guard.gate is None or token is None:
            return False
        try:
            if self.guard.gate.begun(token):
                self._begun.add(handle)
                return False
            self._write_down(_not_begun(trouble))
            self.guard.gate.shut(token)
        except OrchestrationError as error:
            self.guard.work.logger.warning("it is not certain that a job will not begin: %s", error.what)
            return False
        return True

    def _token(self) -> str | None:
        return self.guard.work.ledger.operations.get(self.key).token


class BulkGuardedJobs(GuardedJobs):
    """Of a service that a run need not stay for."""

    def poll_many(self, items: Sequence[tuple[Request, str]]) -> Mapping[str, Status]:
        if not isinstance(self.inner, BulkService):
            return {}
        return self.inner.poll_many(items)


class ResendingGuardedJobs(BulkGuardedJobs):
    """Of one that can also tell by a second submission what came of the first."""

    def find_by_sending(self, permitted: Permitted[Request], token: str) -> str | None:
        inner = self.inner
        if not isinstance(inner, Resends):
            return self.find(permitted.request, token)
        return self._asked(lambda: inner.find_by_sending(permitted, token))


def _kind(service: Service[Any]) -> type[GuardedJobs]:
    if isinstance(service, Resends):
        return ResendingGuardedJobs
    return BulkGuardedJobs if isinstance(service, BulkService) else GuardedJobs


def _not_begun(trouble: str) -> JobNotStarted:
    return JobNotStarted(f"{trouble} before the job had begun; it will not begin there any more")


def _given_up(trouble: str) -> TransferWithdrawn:
    return TransferWithdrawn(f"{trouble} before the data was there")
