"""How long it takes, by the settings as they are shipped, until work is elsewhere: on a clock that waits for nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from prefect.client.schemas.objects import State
from prefect.states import Suspended as SuspendedState
from siting_bench import JOB, NERSC, BulkSite, Clock, Folders, Left, Site, Yard, settings_of
from siting_world import wait_for

from orchestration.conditions import SiteState
from orchestration.config import IriSite, SitingPolicy, WaitingPolicy
from orchestration.errors import OperationFailed
from orchestration.flows.suspending import SuspendedRuns
from orchestration.flows.watching import TURN_SECONDS, Watcher
from orchestration.iri.jobs import IriJobs
from orchestration.ledger import Ledger
from orchestration.ledger.service import PollSchedule
from orchestration.sandbox.faults import FaultKind
from orchestration.sandbox.iri.settings import COMPUTE, TOKEN, IriSettings
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.testing import RunningFacility, running_facility

SHIPPED = SitingPolicy()
LIMIT_SECONDS = 120.0
START_SECONDS = 10.0
"""Until a worker has started the process of a run that goes on."""

MOMENTS = ["before the choice", "before the copy", "during the copy", "at the submission", "in the queue"]
HOW = ["it says so", "it says nothing"]

everywhere = pytest.mark.parametrize("moment", MOMENTS)
somehow = pytest.mark.parametrize("how", HOW)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.standing(monkeypatch)
    return clock


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", clock=clock, lease_seconds=1e9) as ledger:
        yield ledger


@dataclass
class Outage:
    """Of site ``a``, from some moment on; `down` is what makes it so."""

    clock: Clock
    down: Callable[[], None]
    began_at: float | None = None
    moved_at: float | None = None

    def begin(self) -> None:
        if self.began_at is None:
            self.began_at = self.clock.now
            self.down()

    def once(self, true: object) -> None:
        if true:
            self.begin()

    def soon(self, true: object) -> None:
        """Right after an answer: the next question comes as late as it may."""
        if true and self.began_at is None:
            self.clock.soon(self.begin)

    def comes(self, moment: str, yard: Yard) -> None:
        """Let it come when the run is there, if that is before the job."""
        if moment == "before the choice":
            self.begin()
        elif moment == "before the copy":
            yard.mover.on_reserve = lambda _: self.begin()
        elif moment == "during the copy":
            yard.mover.on_poll = lambda _: self.begin()

    def moved(self, _: Site) -> None:
        self.moved_at = self.clock.now

    def was_left_in_time(self, yard: Yard, moment: str) -> None:
        """The job is at the other site, once, with the reason beside the one that was left."""
        first = moment == "before the choice"
        assert yard.decided == (["b"] if first else ["a", "b"])
        assert len(yard.at["b"].submitted) == 1
        assert self.began_at is not None
        assert self.moved_at is not None
        assert self.moved_at - self.began_at <= LIMIT_SECONDS
        reasons = ("a: passed over: down", "a: possible: unknown") if first else ("a: left: a ",)
        assert yard.said("a").startswith(reasons), yard.said("a")


# ----- a site that does as it is told -------------------------------------------------------------------------------


def falls(site: Site, how: str) -> None:
    if how == "it says so":
        site.state = SiteState.DOWN
    else:
        site.silent = site.mute = True


def yard_of(ledger: Ledger, *, kind: type[Site] = Site) -> Yard:
    """Jobs at ``a`` wait in the queue for ever; those at ``b`` are done at once."""
    yard = Yard.of(ledger, policy=SHIPPED, kind=kind)
    yard.schedule = PollSchedule(first=0.5)
    yard.mover.polls = yard.at["a"].polls = 1_000_000
    yard.at["b"].polls = 0
    return yard


def in_two_minutes(ledger: Ledger, clock: Clock, moment: str, how: str, *, retry_after: float | None) -> None:
    yard = yard_of(ledger)
    site = yard.at["a"]
    site.retry_after = retry_after
    outage = Outage(clock, lambda: falls(site, how))
    yard.at["b"].on_submit = outage.moved

    def loses_its_answer(_: Site) -> None:
        outage.begin()
        site.silent = True

    outage.comes(moment, yard)
    if moment in ("at the submission", "in the queue"):
        yard.mover.polls = 0
    if moment == "at the submission":
        site.on_submit = loses_its_answer
    if moment == "in the queue":
        queued_until = clock.now + 1800.0
        site.on_poll = lambda _: outage.soon(clock.now > queued_until)
    assert yard.run("run") == "b"
    outage.was_left_in_time(yard, moment)


@somehow
@everywhere
def test_work_that_has_not_begun_is_elsewhere_within_two_minutes(
    ledger: Ledger, clock: Clock, moment: str, how: str
) -> None:
    in_two_minutes(ledger, clock, moment, how, retry_after=None)


@pytest.mark.parametrize("moment", ["at the submission", "in the queue"])
def test_a_site_that_asks_for_an_hour_does_not_get_it(ledger: Ledger, clock: Clock, moment: str) -> None:
    in_two_minutes(ledger, clock, moment, "it says nothing", retry_after=3600.0)


# ----- a run without a process --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prefect(SuspendedRuns):
    """Has the runs that it is asked about, suspended."""

    resumed: list[str] = field(default_factory=list)

    def resume(self, run_id: str) -> bool:
        self.resumed.append(run_id)
        return True

    def states(self, run_ids: Sequence[str]) -> Mapping[str, State | None]:
        return {run: SuspendedState() for run in run_ids}

    def moved(self, run_ids: Sequence[str]) -> Mapping[str, State | None]:
        return {}

    def cancelled(self, run_ids: Sequence[str]) -> Collection[str]:
        return []

    def begun(self, flow: str) -> Mapping[str, State]:
        return {}


@somehow
def test_the_work_of_a_suspended_run_is_elsewhere_within_two_minutes(ledger: Ledger, clock: Clock, how: str) -> None:
    yard = yard_of(ledger, kind=BulkSite)
    yard.mover.polls = 0
    yard.inline_seconds = WaitingPolicy().inline_seconds
    outage = Outage(clock, lambda: falls(yard.at["a"], how))
    yard.at["b"].on_submit = outage.moved
    with pytest.raises(Left):
        yard.run("run")

    prefect = Prefect()
    watcher = Watcher(ledger, yard.work("the watcher's").services, prefect)
    quiet_until = clock.now + 120.0
    while not prefect.resumed:
        outage.once(clock.now > quiet_until)
        watcher.once(seconds=0.0)
        clock.wait(10 * TURN_SECONDS)
    clock.wait(START_SECONDS)
    assert yard.run("run") == "b"
    outage.was_left_in_time(yard, "in the queue")


# ----- a facility with the IRI API ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    state = tmp_path_factory.mktemp("facility")
    iri = IriSettings(roots=(tmp_path_factory.getbasetemp(),), grace=0.5)
    with running_facility(state, settings=replace(Settings(state=state), iri=iri)) as running:
        yield running


@dataclass(frozen=True)
class Disk:
    """The folders of jobs as a collection of Globus shows them."""

    jobs: Path

    def begun(self, token: str) -> bool:
        return (self.jobs / token / "started.json").exists()

    def stop(self, token: str) -> None:
        (self.jobs / token / "cancel").mkdir(parents=True, exist_ok=True)

    def shut(self, token: str) -> None:
        self.stop(token)
        if self.begun(token):
            raise OperationFailed("it has begun")


@dataclass
class Iri:
    """Site ``a``: every job of it waits in the queue."""

    facility: RunningFacility
    folder: Path
    jobs: IriJobs

    def falls(self, how: str) -> None:
        if how == "it says so":
            self.facility.client.iri.begin_maintenance()
        else:
            self.facility.client.faults.add(" /iri/", FaultKind.DROP, times=0)

    def on_request(self, hook: Callable[[httpx.Request], None]) -> None:
        self.jobs.client._http.event_hooks["request"].append(hook)

    def calm(self) -> None:
        """All goes on as if nothing had been, and everything in the queue gets its turn."""
        self.facility.client.faults.clear()
        self.facility.client.iri.all_up()
        self.facility.client.iri.hold(held=False)


@pytest.fixture
def iri(facility: RunningFacility, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Iri]:
    monkeypatch.setenv("IRI_API_TOKEN", TOKEN)
    words = {
        "kind": "iri",
        "api_url": f"{facility.url}/iri",
        "resource": COMPUTE,
        "raw_endpoint": "a_raw",
        "scratch_endpoint": "a_out",
        "job_folder": str(tmp_path / "jobs"),
        "python": sys.executable,
        "account": "als",
    }
    (tmp_path / "jobs").mkdir()
    with closing(IriJobs(IriSite.model_validate(words).known_as("a"))) as jobs:
        found = Iri(facility, tmp_path, jobs)
        facility.client.iri.hold()
        yield found
        found.calm()


@somehow
@everywhere
def test_work_is_elsewhere_within_two_minutes_of_the_end_of_a_facility(
    ledger: Ledger, clock: Clock, iri: Iri, moment: str, how: str
) -> None:
    yard = yard_of(ledger)
    site = iri.jobs.site.model_dump(exclude={"name"})
    yard = replace(
        yard,
        settings=settings_of({"a": site, "b": NERSC}, SHIPPED),
        at={"a": iri.jobs, "b": yard.at["b"]},
        gates={"a": Disk(iri.folder / "jobs"), "b": Folders()},
        spec=replace(JOB, executable="/usr/bin/touch", arguments=("ran",), directory=str(iri.folder)),
    )
    outage = Outage(clock, lambda: iri.falls(how))
    yard.at["b"].on_submit = outage.moved
    outage.comes(moment, yard)
    if moment in ("at the submission", "in the queue"):
        yard.mover.polls = 0
    if moment == "at the submission":
        iri.facility.client.faults.add("POST .*/compute/job", FaultKind.LOST_ANSWER)
        sent: list[httpx.Request] = []

        def after_the_submission(request: httpx.Request) -> None:
            outage.once(sent)
            if "/compute/job/" in request.url.path:
                sent.append(request)

        iri.on_request(after_the_submission)
    if moment == "in the queue":
        queued_until = clock.now + 10.0
        iri.on_request(lambda _: outage.soon(clock.now > queued_until))
    assert yard.run("run") == "b"
    outage.was_left_in_time(yard, moment)
    iri.calm()
    wait_for(lambda: all(job["state"] in {"completed", "failed", "canceled"} for job in iri.facility.client.iri.jobs()))
    assert not (iri.folder / "ran").exists(), "the job that was left behind did nothing"
