"""Whole jobs through the ledger: storms of faults, killed processes, deadlines, a facility that goes down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from iri_ground import Ground, until

from orchestration.errors import Cancelled, DeadlinePassed, JobFailed
from orchestration.iri.jobs import IriJobs
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import PollSchedule
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone

PLACE = Place(name="iri", zone=Zone.EXTERNAL)

BOTH = pytest.mark.parametrize("version", [pytest.param(1, marks=pytest.mark.slow), 2])
"""The first version by the long part of the tests."""

PROGRAM = """
    import json, os, signal, sys
    from pathlib import Path
    from orchestration.config import IriSite
    from orchestration.iri.jobs import IriJobs, Patience
    from orchestration.jobs import JobSpec
    from orchestration.ledger import Ledger
    from orchestration.ledger.boundary import listening
    from orchestration.ledger.operation import Operation
    from orchestration.ledger.perform import perform
    from orchestration.paths import RelativePath
    from orchestration.policy import Place, Zone
    top, kill_at = Path(sys.argv[1]), int(sys.argv[2])
    count = 0

    def listener(boundary, subject):
        global count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    site = IriSite.model_validate_json((top / "site.json").read_text())
    spec = JobSpec.parse(json.loads((top / "spec.json").read_text()))
    jobs = IriJobs(site, patience=Patience(settle=0.3, unknown=0.5, report=5.0))
    with Ledger(f"sqlite:///{top}/ledger.sqlite") as ledger, listening(listener):
        scan = ledger.scans.register(beamline="bl832", path=RelativePath("scan.h5"), fingerprint="1:2")
        place = Place(name="iri", zone=Zone.EXTERNAL)
        operation = Operation(scan=scan, step="reconstruct", request=spec, destination=place, deadline=60.0)
        perform(ledger, operation, jobs)
"""


class Clock:
    """The time, and how much later it is made to be."""

    later = 0.0

    def __call__(self) -> float:
        return time.time() + self.later


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", clock=clock) as ledger:
        yield ledger


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=RelativePath("scan.h5"), fingerprint="1:2")


def operation(scan: Scan, spec: JobSpec) -> Operation[JobSpec]:
    return Operation(scan=scan, step="reconstruct", request=spec, destination=PLACE, deadline=600.0)


def alive(ground: Ground) -> bool:
    """Whether any job of any test is queued or runs; those of this one are not known by a name here."""
    return any(row["state"] in {"new", "queued", "held", "active"} for row in ground.control.jobs())


@pytest.mark.parametrize(("version", "kind"), [(1, "lost_answer"), (2, "drop"), (2, "status")])
def test_a_job_is_run_once_through_a_storm(ground: Ground, version: int, ledger: Ledger, scan: Scan, kind: str) -> None:
    before = len(ground.control.jobs())
    for question in ("POST .*/compute/job", "compute/status", "filesystem/view", "/task/"):
        ground.facility.client.faults.add(question, kind)
    jobs = ground.jobs(version)

    done = perform(ledger, operation(scan, ground.spec()), jobs)

    assert (done.evidence["exit_code"], done.already_done) == (0, False)
    assert perform(ledger, operation(scan, ground.spec()), jobs).already_done
    assert (len(ground.control.jobs()) - before, ground.runs) == (1, 1)


@pytest.mark.parametrize("version", [1, 2])
def test_a_request_that_arrives_twice_runs_once(ground: Ground, version: int, ledger: Ledger, scan: Scan) -> None:
    """Without keys these are two jobs, of which the second does nothing."""
    before = len(ground.control.jobs())
    ground.facility.client.faults.add(".*", "repeat", times=0)
    done = perform(ledger, operation(scan, ground.spec()), ground.jobs(version))
    assert done.evidence["exit_code"] == 0
    assert len(ground.control.jobs()) - before == (2 if version == 1 else 1)
    assert ground.runs == 1


@BOTH
def test_a_job_is_run_once_where_every_third_request_fails(
    ground: Ground, version: int, ledger: Ledger, scan: Scan
) -> None:
    before = len(ground.control.jobs())
    for kind in ("status", "drop", "lost_answer"):
        ground.facility.client.faults.add("/iri/", kind, times=0, chance=0.12)
    schedule = PollSchedule(first=0.2)
    done = perform(ledger, operation(scan, ground.spec()), ground.jobs(version), schedule=schedule)
    assert done.evidence["exit_code"] == 0
    assert (len(ground.control.jobs()) - before, ground.runs) == (1, 1)


@contextmanager
def once_it_runs(ground: Ground, act: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as the program of the job has begun."""

    def wait() -> None:
        until(lambda: ground.runs == 1)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


@BOTH
def test_at_its_deadline_the_job_is_cancelled_at_the_facility(
    ground: Ground, version: int, ledger: Ledger, scan: Scan, clock: Clock
) -> None:
    jobs, spec = ground.jobs(version), ground.spec("import time; time.sleep(300)")
    with once_it_runs(ground, lambda: setattr(clock, "later", 1000.0)), pytest.raises(DeadlinePassed):
        perform(ledger, operation(scan, spec), jobs)
    assert ledger.operations.open() == []
    until(lambda: not alive(ground))


@BOTH
def test_what_is_cancelled_in_the_ledger_is_cancelled_at_the_facility(
    ground: Ground, version: int, ledger: Ledger, scan: Scan
) -> None:
    jobs, spec = ground.jobs(version), ground.spec("import time; time.sleep(300)")
    wanted = operation(scan, spec)
    with once_it_runs(ground, lambda: ledger.operations.request_cancel(wanted.key)), pytest.raises(Cancelled):
        perform(ledger, wanted, jobs)
    until(lambda: not alive(ground))


@pytest.mark.parametrize("status", [401, 403])
def test_a_facility_that_does_not_let_this_service_submit_has_refused_the_job(
    ground: Ground, version: int, ledger: Ledger, scan: Scan, status: int
) -> None:
    """Nothing was done, and that is certain: the work may be given to another site."""
    ground.facility.client.faults.add("POST .*/compute/job", status=status, times=0)
    wanted = operation(scan, ground.spec())
    with pytest.raises(JobFailed):
        perform(ledger, wanted, ground.jobs(version))
    record = ledger.operations.get(wanted.key)
    assert (record.state, record.handle) == (OperationState.FAILED, None)
    assert ground.submitted() == 0


def test_a_failed_job_is_an_answer_and_the_next_attempt_is_another_job(
    ground: Ground, ledger: Ledger, scan: Scan
) -> None:
    spec = ground.spec("import os, sys; os.path.exists('mended') or sys.exit(3); open('out', 'w').write('x')")
    with pytest.raises(JobFailed, match="exit code 3"):
        perform(ledger, operation(scan, spec), ground.jobs(2))
    (ground.folder / "work" / "mended").touch()
    assert perform(ledger, operation(scan, spec), ground.jobs(2)).record.attempt == 2


@BOTH
def test_a_facility_that_is_down_for_a_while_gets_the_job_once(
    ground: Ground, version: int, ledger: Ledger, scan: Scan
) -> None:
    before = len(ground.control.jobs())
    ground.control.switch("down")
    timer = threading.Timer(0.7, lambda: ground.control.switch("up"))
    timer.start()
    done = perform(ledger, operation(scan, ground.spec()), ground.jobs(version))
    timer.join()
    assert done.record.attempt == 1
    assert (len(ground.control.jobs()) - before, ground.runs) == (1, 1)


def run(folder: Path, kill_at: int) -> int:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), str(kill_at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=dict(os.environ))
    if done.returncode > 0:
        sys.stderr.write(done.stderr)
    return done.returncode


@BOTH
def test_killed_again_and_again_the_job_runs_once(ground: Ground, version: int) -> None:
    spec = ground.spec("import time; time.sleep(0.2); open('out', 'w').write('x')")
    (ground.folder / "site.json").write_text(ground.site(version).model_dump_json())
    (ground.folder / "spec.json").write_text(json.dumps(spec.document()))
    with Ledger(f"sqlite:///{ground.folder}/ledger.sqlite"):
        pass  # the schema is there before anybody is killed
    before = len(ground.control.jobs())

    kill_at, kills = 2, 0
    while (code := run(ground.folder, kill_at)) != 0:
        assert code == -signal.SIGKILL
        kills += 1
        kill_at += 5
        assert kills < 9

    assert kills >= 2
    assert (len(ground.control.jobs()) - before, ground.runs) == (1, 1)


@BOTH
def test_killed_while_it_submits_the_job_is_adopted(ground: Ground, version: int) -> None:
    """The facility has accepted it, and the process dies before it hears of that."""
    (ground.folder / "site.json").write_text(ground.site(version).model_dump_json())
    (ground.folder / "spec.json").write_text(json.dumps(ground.spec().document()))
    with Ledger(f"sqlite:///{ground.folder}/ledger.sqlite"):
        pass
    before = len(ground.control.jobs())
    ground.control.turn(submit_delay=3600.0)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(ground.folder), "0"]
    with subprocess.Popen(command, env=dict(os.environ)) as process:
        until(lambda: len(ground.control.jobs()) > before)
        process.kill()
    ground.control.turn(submit_delay=0.0)
    assert run(ground.folder, 0) == 0
    assert (len(ground.control.jobs()) - before, ground.runs) == (1, 1)


def test_many_threads_share_one_client(ground: Ground, ledger: Ledger, scan: Scan) -> None:
    jobs: IriJobs = ground.jobs(2)
    specs = [ground.spec(directory=str(ground.folder / f"work{number}")) for number in range(4)]
    failed: list[BaseException] = []

    def one(number: int) -> None:
        step = Operation(
            scan=scan, step=f"reconstruct {number}", request=specs[number], destination=PLACE, deadline=60.0
        )
        try:
            perform(ledger, step, jobs)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [(Path(spec.directory) / "out").read_text() for spec in specs] == ["x"] * 4


LISTS = "POST .*/compute/status"


def test_where_lists_cannot_be_had_the_key_tells_what_came_of_a_submission(
    ground: Ground, ledger: Ledger, scan: Scan
) -> None:
    ground.facility.client.faults.add("POST .*/compute/job", "lost_answer")
    ground.facility.client.faults.add(LISTS, times=0)
    before = len(ground.control.jobs())
    perform(ledger, operation(scan, ground.spec()), ground.jobs(2))
    assert (len(ground.control.jobs()) - before, ground.runs) == (1, 1)


def test_nothing_is_sent_again_of_a_scan_that_was_flagged_meanwhile(ground: Ground, ledger: Ledger, scan: Scan) -> None:
    ground.facility.client.faults.add("POST .*/compute/job", "drop")
    ground.facility.client.faults.add(LISTS, times=0)
    before = len(ground.control.jobs())

    def flag(boundary: Boundary, _: str) -> None:
        if boundary is Boundary.BEFORE_FIND:
            ledger.scans.register(beamline=scan.beamline, path=scan.path, export_controlled=True)

    wanted = replace(operation(scan, ground.spec()), deadline=3.0)
    with listening(flag), pytest.raises(DeadlinePassed, match="injected"):
        perform(ledger, wanted, ground.jobs(2))
    assert len(ground.control.jobs()) == before
    assert ledger.operations.get(wanted.key).state.open
