"""What is taken back from a site in trouble, and what is not: one site that does as it is told."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from siting_bench import (
    HERE,
    JOB,
    QUEUED,
    QUICK,
    RUNNING,
    BulkSite,
    Clock,
    Folders,
    Site,
    Told,
    falls_silent,
    goes_down,
)

from orchestration.conditions import SiteState
from orchestration.config import Endpoint, LocalSite, Settings, SitingPolicy
from orchestration.errors import JobFailed, JobLost, JobNotStarted, JobPreempted, NodeFailed, TransferFailed
from orchestration.flows.guarding import Guard
from orchestration.flows.looking import Watch
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.attempt import CANCELLING
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import BulkService, CancelAnswer, Document, Failed, PollSchedule, Resends
from orchestration.paths import RelativePath
from orchestration.transfers import TransferItem, TransferRequest


@dataclass
class Later:
    """The time; `later` by so many seconds with each look at it."""

    later: float = 0.0
    _added: float = 0.0

    def __call__(self) -> float:
        self._added += self.later
        return time.time() + self._added


@dataclass
class Bench:
    ledger: Ledger
    scan: Scan
    site: Site = field(default_factory=Site)
    folders: Folders | None = None
    clock: Later = field(default_factory=lambda: Later())

    def perform(self, operation: Operation[Any]) -> Outcome:
        settings = Settings()
        watch = Watch(site="nersc", policy=QUICK, ask=self.site.condition, clock=self.clock)
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
    with pytest.raises(JobNotStarted, match=r"nersc did not answer for \d+ s"):
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
    assert isinstance(guard(bench.job(), Told()), Resends)
    assert not isinstance(guard(bench.job(), BulkSite()), Resends)
    bulk = guard(bench.job(), BulkSite())
    assert isinstance(bulk, BulkService)
    assert bulk.poll_many([(JOB, "handle")]) == {"handle": QUEUED}


def test_a_copy_goes_on_to_a_site_that_does_not_say_how_it_is(bench: Bench) -> None:
    bench.site.status, bench.site.state = RUNNING, SiteState.UNKNOWN
    bench.clock.later = 3600.0
    bench.perform(bench.copy())
    assert not bench.site.cancelled


@pytest.mark.parametrize("kind", [JobLost, NodeFailed, JobPreempted])
def test_a_job_that_left_no_report_is_lost_once_its_folder_is_shut(bench: Bench, kind: type[JobFailed]) -> None:
    bench.folders = Folders(trouble=True)
    bench.site.status = Failed(error=kind("it is gone"))

    def mended(site: Site) -> None:
        if site.polls == 3 and bench.folders is not None:
            assert bench.folders.stops == []
            bench.folders.trouble = False

    bench.site.on_poll = mended
    with pytest.raises(kind):
        bench.perform(bench.job())
    assert len(bench.folders.stops) == 1
    assert bench.site.polls == 2


def test_a_job_that_was_preempted_and_reported_is_over_without_more_proof(bench: Bench) -> None:
    bench.folders = Folders(trouble=True)
    bench.site.status = Failed(error=JobPreempted("it made room"), evidence={"reason": "terminated"})
    with pytest.raises(JobPreempted):
        bench.perform(bench.job())


def watch(site: Site, clock: Clock) -> Watch:
    return Watch(site="nersc", policy=SitingPolicy(), ask=site.condition, clock=clock)


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
    """Of its interface for jobs; what its status says meanwhile is no answer about jobs."""
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


def test_a_status_that_is_silent_is_no_trouble_while_jobs_are_answered_for() -> None:
    clock, site = Clock(), Site(mute=True)
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


def test_a_status_that_says_nothing_is_no_silence() -> None:
    clock, site = Clock(), Site(state=SiteState.UNKNOWN)
    looking = watch(site, clock)
    for _ in range(10):
        clock.now += 20.0
        assert looking.trouble() == ""


def test_a_silence_that_another_process_has_found_is_not_waited_for_again() -> None:
    clock, site = Clock(), Site()
    first, second = watch(site, clock), watch(site, clock)
    first.unanswered()
    clock.now += 61.0
    finding = first.finding(first.trouble())
    assert finding["note"] == "nersc did not answer for 61 s"
    clock.now += 10.0
    second.heed(finding)
    assert second.trouble() == "nersc did not answer for 71 s"
    second.answered()
    assert second.trouble() == ""
    nothing: list[Document | None] = [None, {"note": "in the queue"}]
    for progress in nothing:
        second.heed(progress)
        assert second.trouble() == ""
