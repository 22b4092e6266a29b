"""Watching over work that was given to a site, until it has begun there; taking it back if the site goes down.

It is taken back only when it is certain that it will not begin: nothing was submitted, or the site confirms that the
job is cancelled, or the job's folder proves it (`Fence`). Without such a proof the site is waited for, however long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from orchestration.conditions import SiteCondition, SiteState
from orchestration.config import ComputeSite, SitingPolicy
from orchestration.errors import (
    JobNotStarted,
    OrchestrationError,
    ServiceUnavailable,
    TransferFailed,
)
from orchestration.flows.asking import answers
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger.attempt import CANCELLING
from orchestration.ledger.operation import Operation, error_document
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import BulkService, CancelAnswer, Failed, Request, Running, Service, Status
from orchestration.transfers import TransferRequest

T = TypeVar("T")


class Gate(Protocol):
    """The beginning of the jobs of a site, as `orchestration.globus.fence.Fence` sees it. Both may raise
    OrchestrationError for what cannot be told now.
    """

    def begun(self, token: str) -> bool:
        """Whether the job of this token has begun, or is over."""
        ...

    def shut(self, token: str) -> None:
        """Return once it is certain that it has not begun, and never will."""
        ...


@dataclass(kw_only=True)
class Watch:
    """Looks at one site from time to time, and says when work that has not begun had better be elsewhere."""

    site: str
    policy: SitingPolicy
    ask: Callable[[], SiteCondition]
    clock: Callable[[], float] = time.monotonic
    _looked_at: float = float("-inf")
    _down: str = ""
    _silent: dict[str, float] = field(default_factory=dict)
    """Since when what is asked has not answered: its status, and its interface for jobs."""

    def answered(self) -> None:
        """Its interface for jobs does what it is there for, whatever is said about its status."""
        self._silent.clear()

    def unanswered(self) -> None:
        """It was asked about jobs, in vain."""
        self._silent.setdefault("jobs", self.clock())

    def trouble(self) -> str:
        """What is wrong with the site; empty if nothing is."""
        if self.clock() - self._looked_at >= self.policy.look_seconds:
            self._look()
            self._looked_at = self.clock()
        silence = self.clock() - min(self._silent.values(), default=self.clock())
        if not self._down and silence > self.policy.silence_seconds:
            return f"{self.site} did not answer for {silence:.0f} s"
        return self._down

    def _look(self) -> None:
        found = answers({self.site: self.ask}, seconds=self.policy.answer_seconds).get(self.site)
        if isinstance(found, Exception) and not isinstance(found, OrchestrationError):
            raise found
        if not isinstance(found, SiteCondition) or found.state is SiteState.UNKNOWN:
            self._silent.setdefault("status", self.clock())
            self._down = ""
            return
        self._silent.pop("status", None)
        note = f" ({found.note})" if found.note else ""
        self._down = f"{self.site} went down{note}" if found.state is SiteState.DOWN else ""


@dataclass(kw_only=True)
class Guard:
    """Stands between `perform` and the services that it asks, for the work of one run at one site."""

    work: Work
    site: ComputeSite
    watch: Watch
    gate: Gate | None = None
    job: str | None = None
    """Key of the operation of the job, once it was come to."""

    def __call__(self, operation: Operation[Any], service: Service[Any]) -> Service[Any]:
        request = operation.request
        if isinstance(request, JobSpec):
            self.job = operation.key
            kind = BulkGuardedJobs if isinstance(service, BulkService) else GuardedJobs
            return kind(service, guard=self, key=operation.key)
        if isinstance(request, TransferRequest) and request.destination.name == self.site.raw_endpoint and not self.job:
            return GuardedCopy(service, guard=self, key=operation.key)
        return service


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

    def reserve(self, key: str) -> str:
        return self.inner.reserve(key)

    def find(self, request: Request, token: str) -> str | None:
        return self.inner.find(request, token)

    def cancel(self, handle: str) -> CancelAnswer:
        return self.inner.cancel(handle)

    def _write_down(self, reason: OrchestrationError) -> None:
        """Why it is cancelled, before it is: whoever reads of its end, perhaps after a crash, is told of this."""
        rows = self.guard.work.ledger.operations
        holder = rows.get(self.key).owner  # the claim under which this is called
        if not self._written and holder is not None:
            rows.noted(self.key, Owner.parse(holder), CANCELLING, error_document(reason))
            self._written.append(reason.what)


class GuardedCopy(_Guarded):
    """The copy of the data to a site: of no use there if the site is down."""

    def submit(self, request: Request, token: str) -> str:
        if trouble := self.guard.watch.trouble():
            raise _given_up(trouble)
        return self.inner.submit(request, token)

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
        if trouble := self.guard.watch.trouble():
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

    def submit(self, request: Request, token: str) -> str:
        """It is asked to submit only what is known not to have been."""
        if trouble := self.guard.watch.trouble():
            raise _not_begun(trouble)
        return self._asked(lambda: self.inner.submit(request, token))

    def poll(self, request: Request, handle: str) -> Status:
        try:
            status = self._asked(lambda: self.inner.poll(request, handle))
        except ServiceUnavailable:
            if (trouble := self._trouble(handle)) and self._shut(self._token(), trouble, handle):
                return Failed(error=_not_begun(trouble))
            raise
        if not isinstance(status, Running):
            return status
        trouble = self._trouble(handle)
        if not trouble:
            return status  # a watcher, if it is left to one, looks at the site as well
        return self._withdrawn(request, handle, status, trouble)

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


def _not_begun(trouble: str) -> JobNotStarted:
    return JobNotStarted(f"{trouble} before the job had begun; it will not begin there any more")


def _given_up(trouble: str) -> TransferFailed:
    return TransferFailed(f"{trouble} before the data was there", next_step="start the flow again: it chooses anew")
