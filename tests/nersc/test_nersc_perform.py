"""Whole operations through the ledger, while the API storms and processes are killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from nersc_ground import UNTIL_GO, Ground, job_operation, token_of, until

from orchestration.errors import DeadlinePassed, JobFailed, JobPreempted
from orchestration.ledger import Ledger
from orchestration.ledger.perform import perform
from orchestration.ledger.service import Progress
from orchestration.sandbox.testing import submit


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        yield ledger


def test_a_job_is_run_once_through_a_storm(ground: Ground, ledger: Ledger) -> None:
    for question in ("POST .*/compute/jobs", "GET .*/compute/jobs", "GET .*/tasks", "GET .*/download", "POST .*/token"):
        ground.facility.client.faults.add(question, "lost_answer")
    done = perform(ledger, job_operation(ledger, ground.folder), ground.jobs())
    assert ground.work("runs.txt").read_text() == "run\n"
    assert ground.asked() == 1
    assert done.evidence["state"] == "COMPLETED"
    assert perform(ledger, job_operation(ledger, ground.folder), ground.jobs()).already_done


@pytest.mark.parametrize(("when", "delay"), [("accepted", 0.0), ("accepted", 1.0), ("after-submit", 0.0)])
def test_a_process_killed_anywhere_doubles_nothing(ground: Ground, ledger: Ledger, when: str, delay: float) -> None:
    """Also where the API sits on the submission, while the next process already looks for it."""
    ground.control.turn(submit_delay=delay)
    program = Path(__file__).with_name("killed_job.py")
    words = ground.facility.nersc_environment() | {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "BEAMLINE_ENV_FILE": "",
    }
    done = subprocess.run(
        [sys.executable, program, ledger.url, when, ground.site.model_dump_json(), str(ground.folder)],
        env=words,
        cwd=ground.folder,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    perform(ledger, job_operation(ledger, ground.folder), ground.jobs())
    assert (ground.folder / "work" / "runs.txt").read_text() == "run\n"
    assert ground.asked() == 1


def test_a_failed_job_can_be_run_again(ground: Ground, ledger: Ledger) -> None:
    text = "test -e mended || exit 3"
    with pytest.raises(JobFailed, match="exit code 3"):
        perform(ledger, job_operation(ledger, ground.folder, text=text), ground.jobs())
    (ground.folder / "work" / "mended").touch()
    assert perform(ledger, job_operation(ledger, ground.folder, text=text), ground.jobs()).record.attempt == 2
    assert ground.asked() == 2


def test_at_its_deadline_a_job_is_cancelled_at_slurm(ground: Ground, ledger: Ledger) -> None:
    ground.control.turn(held=True)
    began = time.time()
    now = [began]

    def seen_waiting(_step: str, _progress: Progress) -> None:
        now[0] = began + 3600.0

    with Ledger(ledger.url, clock=lambda: now[0]) as later, pytest.raises(DeadlinePassed):
        perform(later, job_operation(later, ground.folder), ground.jobs(), on_progress=seen_waiting)
    assert [job.state.partition(" ")[0] for job in ground.control.jobs()] == ["CANCELLED"]


def test_a_preempted_job_is_told_from_one_that_failed(ground: Ground, ledger: Ledger) -> None:
    """What to do about it is decided where sites are chosen."""
    jobs = ground.jobs()

    def preempt(_step: str, progress: object) -> None:
        if "running" in str(progress):
            ground.control.end_job(ground.control.jobs()[0].id, "PREEMPTED")

    with pytest.raises(JobPreempted):
        perform(ledger, job_operation(ledger, ground.folder, text="sleep 600"), jobs, on_progress=preempt)


def test_a_ledger_that_was_restored_runs_nothing_beside_what_goes_on(
    ground: Ground, ledger: Ledger, tmp_path: Path
) -> None:
    """It knows of no job; the one that is there is found by its key, waited for, and is the only one."""
    text = f"echo run >> runs.txt; {UNTIL_GO}"
    operation = job_operation(ledger, ground.folder, text=text)
    known = ground.jobs()
    submit(known, operation.request, known.reserve(f"{operation.key}-1"))
    until(ground.work("begun").exists)
    with Ledger(f"sqlite:///{tmp_path}/restored.sqlite") as restored:
        done = perform(
            restored,
            job_operation(restored, ground.folder, text=text),
            ground.jobs(),
            on_progress=lambda *_: ground.go(),
        )
        assert done.record.token == token_of(done.record.handle or "")
    assert ground.work("runs.txt").read_text() == "run\n"
    assert ground.asked() == 1


def test_no_more_jobs_are_submitted_at_once_than_the_site_has_sessions(ground: Ground, ledger: Ledger) -> None:
    site = ground.site.model_copy(update={"sessions": 1})
    services = [replace(ground.jobs(), site=site) for _ in range(2)]
    operations = [
        job_operation(ledger, ground.folder, text=f": {name}; echo run >> runs.txt; {UNTIL_GO}")
        for name in ("one", "other")
    ]
    with ThreadPoolExecutor() as pool:
        pairs = zip(operations, services, strict=True)
        running = [pool.submit(perform, ledger, operation, service) for operation, service in pairs]
        until(ground.work("begun").exists)
        until(lambda: any("all that it takes" in str(one.progress) for one in ledger.operations.open()))
        assert ground.asked() == 1
        ground.go()
        assert all(each.result(timeout=60).record.attempt == 1 for each in running)
    assert ground.asked() == 2
