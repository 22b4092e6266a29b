"""What a person cancels stays cancelled, wherever it stood, and whether or not its process lives."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sandbox_hall import running, wait_for
from trial_room import ALCF, LOCAL, NERSC, Room

from orchestration import config
from orchestration.flows.cancelling import Answered
from orchestration.flows.services import Services
from orchestration.flows.stopping import cancel_scan
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.runs import RunState
from orchestration.ledger.service import CancelAnswer, Json
from orchestration.sandbox.trials.kills import Kill
from orchestration.sandbox.trials.nursery import Child
from orchestration.sandbox.trials.program import PAUSE

ANY = "orchestration.flows.bl832.anywhere:any_recon_flow"

PATIENCE = 120.0


@dataclass(frozen=True)
class Work:
    """A reconstruction at one site."""

    site: str
    target: str
    file_path: str

    @property
    def step(self) -> str:
        return f"reconstruct at {self.site}"

    @property
    def arguments(self) -> dict[str, Json]:
        return {"file_path": self.file_path, **({"site": self.site} if self.target == ANY else {})}

    def job(self, room: Room) -> OperationRecord | None:
        return next((one for one in room.overview(self.file_path).operations if one.step == self.step), None)

    def processes(self, room: Room) -> list[int]:
        """Of the programs that were started on the data of this scan, at any time."""
        log = room.world.jobs_log
        lines = [json.loads(line) for line in (log.read_text().splitlines() if log.exists() else [])]
        return [int(line["pid"]) for line in lines if Path(line["scan"]).stem == Path(self.file_path).stem]


TARGETS = {"nersc": NERSC, "alcf": ALCF, "local": LOCAL, "iri": ANY}


@pytest.fixture
def site(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def held(room: Room, site: str) -> Iterator[None]:
    """What is submitted waits in the queue."""

    def hold(*, held: bool) -> None:
        if site == "nersc":
            room.world.facility.superfacility.turn(held=held)
        elif site == "iri":
            room.world.facility.iri.hold(held=held)
        else:
            endpoint = room.world.environment["GLOBUS_COMPUTE_ENDPOINT"]
            room.world.facility.compute.switch(endpoint, held=held)

    hold(held=True)
    try:
        yield
    finally:
        hold(held=False)


@contextmanager
def paused(room: Room) -> Iterator[None]:
    """Programs that have begun go on."""
    pause = room.world.jobs_log.with_name(PAUSE)
    pause.touch()
    try:
        yield
    finally:
        pause.unlink()


def submitted(room: Room, work: Work) -> Child:
    child = room.nursery.start(work.target, work.arguments)
    wait_for(lambda: (job := work.job(room)) is not None and job.handle is not None, seconds=PATIENCE)
    return child


def begun(room: Room, work: Work) -> Child:
    child = submitted(room, work)
    wait_for(lambda: work.processes(room), seconds=PATIENCE)
    return child


def dies(child: Child) -> None:
    child.signal(signal.SIGKILL)
    assert child.wait().killed


def cancelled(room: Room, file_path: str) -> dict[str, Answered]:
    with closing(Services(config.load())) as services, room.world.ledger() as ledger:
        scan = ledger.scans.find(file_path.removeprefix("/global/"))
        return {each.what: each for each in cancel_scan(ledger, services, scan)}


def alive_at_the_facility(room: Room, site: str) -> list[str]:
    facility = room.world.facility
    if site == "nersc":
        return [job.id for job in facility.superfacility.jobs() if not job.over]
    if site == "iri":
        return [str(job["id"]) for job in facility.iri.jobs() if job["state"] in {"new", "queued", "held", "active"}]
    return []  # Globus Compute cannot cancel a task, which ends when its turn comes; local jobs are processes


def cancel(room: Room, work: Work) -> None:
    """Nothing lives after two looks, and everybody says that it was cancelled."""
    answers = cancelled(room, work.file_path)
    # The run that holds it may have stopped it by itself already, as it was told to.
    assert answers[work.step].answer in {CancelAnswer.CANCELLED, CancelAnswer.ALREADY_FINISHED}, answers
    assert all(each.certain for each in answers.values()), answers
    looks = [alive_at_the_facility(room, work.site) for _ in range(2)]
    assert looks[-1] == []
    job = work.job(room)
    assert job is not None
    assert job.state is OperationState.CANCELLED
    with room.world.ledger() as ledger:
        run = ledger.runs.of_scan(job.scan_id)[-1]
    assert run.state is RunState.CANCELLED
    wait_for(lambda: room.prefect_states(work.file_path)[-1][0] == "CANCELLED", seconds=PATIENCE)
    assert cancelled(room, work.file_path) == {}


def nothing_begins_when_its_turn_comes(room: Room, work: Work) -> None:
    """A task stays in the queue of Globus Compute, whatever became of its job."""
    job = work.job(room)
    assert job is not None

    def over() -> bool:
        tasks = room.world.facility.compute.tasks()
        return [task["stage"] in {"success", "failed"} for task in tasks if task["group"] == job.token] == [True]

    wait_for(over, seconds=PATIENCE)
    assert work.processes(room) == []


SLOW = pytest.mark.slow
LIVES, DEAD = True, False


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "site", ["nersc", *(pytest.param(name, marks=SLOW) for name in ("alcf", "local", "iri"))], indirect=True
)
def test_killed_before_it_was_submitted(room: Room, site: str) -> None:
    """Whether it was is not known to anybody but the facility, which may not know it at once either."""
    work = Work(site, TARGETS[site], room.moved_scan())
    kill = Kill(at=f"before-submit of {work.step}")
    assert room.nursery.run(work.target, work.arguments, kill=kill).killed
    job = work.job(room)
    assert job is not None
    assert job.token is not None
    assert job.handle is None
    cancel(room, work)
    assert work.processes(room) == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("site", "lives"),
    [
        ("nersc", LIVES),
        pytest.param("alcf", DEAD, marks=SLOW),
        pytest.param("nersc", DEAD, marks=SLOW),
        pytest.param("alcf", LIVES, marks=SLOW),
        pytest.param("iri", LIVES, marks=SLOW),
        pytest.param("iri", DEAD, marks=SLOW),
    ],
    indirect=["site"],
)
def test_queued(room: Room, site: str, lives: bool) -> None:
    work = Work(site, TARGETS[site], room.moved_scan())
    with held(room, site):
        child = submitted(room, work)
        if not lives:
            dies(child)
        assert site == "alcf" or alive_at_the_facility(room, site) != []
        cancel(room, work)
        if lives:
            assert not child.wait().completed
    if site == "alcf":
        nothing_begins_when_its_turn_comes(room, work)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("site", "lives"),
    [
        ("local", LIVES),
        pytest.param("nersc", LIVES, marks=SLOW),
        pytest.param("nersc", DEAD, marks=SLOW),
        pytest.param("alcf", LIVES, marks=SLOW),
        pytest.param("alcf", DEAD, marks=SLOW),
        pytest.param("local", DEAD, marks=SLOW),
        pytest.param("iri", LIVES, marks=SLOW),
        pytest.param("iri", DEAD, marks=SLOW),
    ],
    indirect=["site"],
)
def test_running(room: Room, site: str, lives: bool) -> None:
    work = Work(site, TARGETS[site], room.moved_scan())
    with paused(room):
        child = begun(room, work)
        if not lives:
            dies(child)
        (program,) = work.processes(room)
        assert running(program)
        cancel(room, work)
        wait_for(lambda: not running(program), seconds=PATIENCE)
        if lives:
            assert not child.wait().completed


COPY = "copy raw from nersc832 to nersc832_alsdev_pscratch_raw"
PLACES = (
    f"after-write of copies, after {COPY}",
    pytest.param(f"after-submit of {COPY}", marks=SLOW),
    pytest.param("after-write of results, after reconstruct at nersc", marks=SLOW),
)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("place", PLACES)
def test_between_two_steps(room: Room, place: str) -> None:
    file_path = room.moved_scan()
    assert room.run(NERSC, file_path=file_path, kill=Kill(at=place)).killed
    assert all(each.certain for each in cancelled(room, file_path).values())
    found = room.overview(file_path)
    assert [operation.step for operation in found.operations if operation.state.open] == []
    with room.world.ledger() as ledger:
        run = ledger.runs.of_scan(found.scan.id)[-1]
        assert (run.flow, run.state) == ("nersc_recon_flow", RunState.CANCELLED)
        assert run not in ledger.runs.dead()
    assert room.prefect_states(file_path)[-1][0] == "CANCELLED"
    assert cancelled(room, file_path) == {}
