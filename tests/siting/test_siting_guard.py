"""What is taken back from a site in trouble, and what is not: one site that does as it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestration.conditions import SiteCondition, SiteState
from orchestration.config import Endpoint, LocalSite, Settings, SitingPolicy
from orchestration.errors import (
    Cancelled,
    JobNotStarted,
    OrchestrationError,
    ServiceUnavailable,
    TransferFailed,
)
from orchestration.flows.guarding import Guard, Watch
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.attempt import CANCELLING
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import (
    BulkService,
    CancelAnswer,
    Failed,
    PollSchedule,
    Progress,
    Request,
    Running,
    Status,
    Succeeded,
)
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone
from orchestration.transfers import TransferItem, TransferRequest

HERE = Place("here", Zone.BEAMLINE)
QUICK = SitingPolicy(look_seconds=0.01, silence_seconds=0.1, answer_seconds=1.0)
QUEUED = Running(progress=Progress(note="in the queue"), queued=True)
RUNNING = Running(progress=Progress(note="running"))
JOB = JobSpec(executable="/bin/true", directory="/tmp", duration=1.0)


@dataclass
class Site:
    """Says what `status` is, after so many `polls` that it is done; asked in vain while `silent`."""

    name: str = "test.jobs"
    state: SiteState = SiteState.UP
    status: Status = QUEUED
    polls: int = 6
    silent: bool = False
    answer: CancelAnswer = CancelAnswer.CANCELLED
    on_poll: Callable[[Site], None] = field(default=lambda _: None)
    on_submit: Callable[[Site], None] = field(default=lambda _: None)
    submitted: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def condition(self) -> SiteCondition:
        return SiteCondition(state=self.state, note="cooling" if self.state is SiteState.DOWN else "")

    def reserve(self, key: str) -> str:
        self._speak()
        return key

    def find(self, request: Request, token: str) -> str | None:
        self._speak()
        return token if token in self.submitted else None

    def submit(self, request: Request, token: str) -> str:
        self._speak()
        self.submitted.append(token)
        self.on_submit(self)
        self._speak()
        return token

    def poll(self, request: Request, handle: str) -> Status:
        self.on_poll(self)
        self._speak()
        self.polls -= 1
        if handle in self.cancelled and self.answer is CancelAnswer.CANCELLED:
            return Failed(error=Cancelled("it was cancelled"))
        return Succeeded() if self.polls < 0 else self.status

    def cancel(self, handle: str) -> CancelAnswer:
        self._speak()
        self.cancelled.append(handle)
        return self.answer

    def _speak(self) -> None:
        if self.silent:
            raise ServiceUnavailable("no answer", retry_after=0.02)


class BulkSite(Site):
    def poll_many(self, items: Sequence[tuple[Request, str]]) -> Mapping[str, Status]:
        return {handle: self.status for _, handle in items}


@dataclass
class Folders:
    """The folders of the jobs of a site."""

    has_begun: bool = False
    trouble: bool = False
    shuts: list[str] = field(default_factory=list)

    def begun(self, token: str) -> bool:
        if self.trouble:
            raise OrchestrationError("Globus does not answer")
        return self.has_begun

    def shut(self, token: str) -> None:
        self.shuts.append(token)


@dataclass
class Bench:
    ledger: Ledger
    scan: Scan
    site: Site = field(default_factory=Site)
    folders: Folders | None = None

    def perform(self, operation: Operation[Any]) -> Outcome:
        settings = Settings()
        watch = Watch(site="nersc", policy=QUICK, ask=self.site.condition)
        suspension = Suspension(self.ledger, "run", None, 60.0)
        work = Work(settings, self.ledger, Services(settings), "run", logging.getLogger("test"), suspension)
        place = LocalSite(name="nersc", kind="local", raw_endpoint="raw", scratch_endpoint="scratch")
        guard = Guard(work=work, site=place, watch=watch, gate=self.folders)
        return perform(self.ledger, operation, guard(operation, self.site), schedule=PollSchedule(ceiling=0.05))

    def job(self) -> Operation[JobSpec]:
        return Operation(scan=self.scan, step="reconstruct", request=JOB, destination=HERE, deadline=20.0)

    def copy(self, *, to: str = "raw") -> Operation[TransferRequest]:
        item = TransferItem(source=RelativePath("a"), destination=RelativePath("a"))
        request = TransferRequest(source=Endpoint(name="server"), destination=Endpoint(name=to), items=(item,))
        return Operation(scan=self.scan, step="copy", request=request, destination=HERE, deadline=20.0)

    def state(self, operation: Operation[Any]) -> OperationState:
        return self.ledger.operations.get(operation.key).state


@pytest.fixture
def bench(ledger: Ledger) -> Bench:
    return Bench(ledger, ledger.scans.register(beamline="bl832", path=RelativePath("raw/p/a.h5"), fingerprint="1"))


def goes_down(site: Site) -> None:
    site.state = SiteState.DOWN


def falls_silent(site: Site) -> None:
    site.silent = True


def test_work_at_a_site_without_trouble_is_left_alone(bench: Bench) -> None:
    assert bench.perform(bench.job()).evidence == {}
    assert not bench.site.cancelled


def test_nothing_is_submitted_to_a_site_that_is_down(bench: Bench) -> None:
    bench.site.state = SiteState.DOWN
    with pytest.raises(JobNotStarted, match=r"nersc went down \(cooling\) before the job had begun"):
        bench.perform(bench.job())
    assert not bench.site.submitted
    assert bench.state(bench.job()) is OperationState.FAILED


def test_a_queued_job_is_cancelled_and_moves_when_that_is_confirmed(bench: Bench) -> None:
    bench.site.on_poll = goes_down
    with pytest.raises(JobNotStarted):
        bench.perform(bench.job())
    assert len(bench.site.cancelled) == 1
    assert bench.state(bench.job()) is OperationState.FAILED


def test_a_running_job_is_waited_for_whatever_becomes_of_its_site(bench: Bench) -> None:
    bench.folders = Folders(trouble=True)
    bench.site.status, bench.site.on_poll = RUNNING, goes_down
    bench.perform(bench.job())
    assert not bench.site.cancelled


@pytest.mark.parametrize("answer", [CancelAnswer.UNKNOWN, CancelAnswer.REFUSED])
def test_a_queued_job_that_nobody_confirms_to_be_cancelled_stays(bench: Bench, answer: CancelAnswer) -> None:
    bench.site.on_poll, bench.site.answer = goes_down, answer
    bench.perform(bench.job())  # and it ends well there
    assert bench.site.cancelled


def test_a_job_that_had_ended_when_it_was_to_be_cancelled_has_ended(bench: Bench) -> None:
    bench.site.on_poll, bench.site.answer, bench.site.polls = goes_down, CancelAnswer.ALREADY_FINISHED, 1
    bench.perform(bench.job())


def test_the_folder_proves_what_the_site_does_not_confirm(bench: Bench) -> None:
    bench.folders = Folders()
    bench.site.on_poll, bench.site.answer = goes_down, CancelAnswer.UNKNOWN
    with pytest.raises(JobNotStarted):
        bench.perform(bench.job())
    assert len(bench.folders.shuts) == 1


def test_the_folder_proves_it_where_the_site_is_silent(bench: Bench) -> None:
    bench.folders = Folders()
    bench.site.on_poll = falls_silent
    with pytest.raises(JobNotStarted, match="nersc did not answer for 0 s"):
        bench.perform(bench.job())
    assert not bench.site.cancelled


def test_a_silent_site_keeps_a_job_whose_folder_shows_that_it_has_begun(bench: Bench) -> None:
    bench.folders = Folders(has_begun=True)
    silences = iter([False] + [True] * 12)

    def for_a_while(site: Site) -> None:
        site.silent = next(silences, False)

    bench.site.on_poll = for_a_while
    bench.perform(bench.job())
    assert not bench.folders.shuts


def test_a_submission_in_doubt_ends_with_the_folder(bench: Bench) -> None:
    bench.folders = Folders()
    bench.site.on_submit = falls_silent
    with pytest.raises(JobNotStarted):
        bench.perform(bench.job())
    assert len(bench.site.submitted) == 1
    assert bench.state(bench.job()) is OperationState.FAILED
    assert "in doubt" in [event.event for event in bench.ledger.operations.history(bench.job().key)]


def test_why_a_job_is_cancelled_is_written_down_before_it_is(bench: Bench) -> None:
    def dies(site: Site) -> None:
        site.state = SiteState.DOWN
        if site.cancelled:
            raise KeyboardInterrupt

    bench.site.answer, bench.site.on_poll = CancelAnswer.UNKNOWN, dies
    with pytest.raises(KeyboardInterrupt):
        bench.perform(bench.job())
    history = [event.event for event in bench.ledger.operations.history(bench.job().key)]
    assert CANCELLING in history
    bench.site.answer, bench.site.state, bench.site.on_poll = CancelAnswer.CANCELLED, SiteState.UP, lambda _: None
    with pytest.raises(JobNotStarted):  # the next run reads that it was cancelled, and knows why
        bench.perform(bench.job())


def test_the_data_is_not_copied_to_a_site_that_is_down(bench: Bench) -> None:
    bench.site.state = SiteState.DOWN
    with pytest.raises(TransferFailed, match="before the data was there"):
        bench.perform(bench.copy())
    assert not bench.site.submitted


def test_a_copy_to_a_site_that_goes_down_is_cancelled(bench: Bench) -> None:
    bench.site.status, bench.site.on_poll = RUNNING, goes_down
    with pytest.raises(TransferFailed, match="before the data was there"):
        bench.perform(bench.copy())
    assert len(bench.site.cancelled) == 1


def test_copies_to_elsewhere_are_nobodys_business(bench: Bench) -> None:
    bench.site.status, bench.site.state = RUNNING, SiteState.DOWN
    bench.perform(bench.copy(to="server"))
    assert not bench.site.cancelled


def test_only_a_service_that_can_be_waited_for_from_elsewhere_is_offered_as_one(bench: Bench) -> None:
    settings = Settings()
    suspension = Suspension(bench.ledger, "run", None, 60.0)
    work = Work(settings, bench.ledger, Services(settings), "run", logging.getLogger("test"), suspension)
    place = LocalSite(name="nersc", kind="local", raw_endpoint="raw", scratch_endpoint="scratch")
    guard = Guard(work=work, site=place, watch=Watch(site="nersc", policy=QUICK, ask=bench.site.condition))
    assert not isinstance(guard(bench.job(), Site()), BulkService)
    bulk = guard(bench.job(), BulkSite())
    assert isinstance(bulk, BulkService)
    assert bulk.poll_many([(JOB, "handle")]) == {"handle": QUEUED}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watch(site: Site, clock: Clock) -> Watch:
    policy = SitingPolicy(look_seconds=20.0, silence_seconds=60.0, answer_seconds=1.0)
    return Watch(site="nersc", policy=policy, ask=site.condition, clock=clock)


def test_a_site_is_looked_at_now_and_then(bench: Bench) -> None:
    clock, site = Clock(), Site()
    looking = watch(site, clock)
    assert looking.trouble() == ""
    site.state = SiteState.DOWN
    assert looking.trouble() == "", "it was looked at a moment ago"
    clock.now += 20.0
    assert looking.trouble() == "nersc went down (cooling)"
    site.state = SiteState.DEGRADED
    clock.now += 20.0
    assert looking.trouble() == "", "it takes work"


def test_silence_is_trouble_when_it_lasts_and_is_over_with_an_answer() -> None:
    clock, site = Clock(), Site()
    looking = watch(site, clock)
    looking.unanswered()
    clock.now += 59.0
    assert looking.trouble() == ""
    clock.now += 2.0
    looking.unanswered()
    assert looking.trouble() == "nersc did not answer for 61 s"
    looking.answered()
    assert looking.trouble() == ""


def test_a_status_page_that_is_silent_is_no_trouble_while_jobs_are_answered_for() -> None:
    clock, site = Clock(), Site(state=SiteState.UNKNOWN)
    looking = watch(site, clock)
    for _ in range(10):
        clock.now += 20.0
        assert looking.trouble() == ""
        looking.answered()
    for _ in range(4):
        clock.now += 20.0
        assert looking.trouble() == ""
    clock.now += 20.0
    assert looking.trouble() == "nersc did not answer for 80 s"
