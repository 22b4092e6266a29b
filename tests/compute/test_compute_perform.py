"""Whole operations through the ledger, while Globus Compute storms and processes are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_ground import Ground, eventually
from compute_jobs import COUNTING, Yard, alive, job_operation

from orchestration.errors import Cancelled, DeadlinePassed, JobFailed
from orchestration.ledger import Ledger
from orchestration.ledger.perform import perform
from orchestration.ledger.service import Progress
from orchestration.sandbox.testing import submit


@pytest.fixture
def yard(ground: Ground, tmp_path: Path) -> Yard:
    return Yard(ground, tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        yield ledger


def test_a_job_is_run_once_through_a_storm(yard: Yard, ledger: Ledger) -> None:
    for question in ("submit$", "batch_status", "taskgroup", "functions$", "status$", "oauth2/token"):
        yard.ground.control.faults.add(question, "lost_answer")
    for question in ("submit$", "taskgroup"):
        yard.ground.control.faults.add(question, "drop")
        yard.ground.control.faults.add(question, "status", skip=1)
    done = perform(ledger, job_operation(ledger, yard.folder), yard.service())
    assert len(yard.runs()) == 1
    assert yard.ground.starts(str(done.evidence["task_group"])) == 1
    assert perform(ledger, job_operation(ledger, yard.folder), yard.service()).already_done


@pytest.mark.parametrize("when", ["before-submit", "accepted", "in-wait"])
def test_a_process_killed_anywhere_doubles_nothing(yard: Yard, ledger: Ledger, when: str) -> None:
    program = Path(__file__).with_name("killed_compute.py")
    done = subprocess.run(
        [sys.executable, program, ledger.url, when, yard.site().model_dump_json(), str(yard.folder)],
        env={**os.environ, **yard.ground.facility.environment()},
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    outcome = perform(ledger, job_operation(ledger, yard.folder), yard.service())
    assert len(yard.runs()) == 1
    assert yard.ground.starts(str(outcome.evidence["task_group"])) == 1


def test_a_submission_that_was_heard_late_runs_nothing_a_second_time(yard: Yard, ledger: Ledger) -> None:
    """The service sits on it for longer than this one waits, and has not accepted it when it is asked about it."""
    spec, service = yard.counting(seconds=0.5), yard.service()
    token = service.reserve("key")
    early = submit(service, spec, token)
    yard.ground.control.faults.add("taskgroup", "status", status=404)
    assert service.find(spec, token) is None
    late = submit(service, spec, token)
    assert service.find(spec, token) == early
    eventually(lambda: yard.ground.over(early) and yard.ground.over(late))
    assert len(yard.runs()) == 1


def test_a_failed_job_can_be_run_again(yard: Yard, ledger: Ledger) -> None:
    code = "import os, sys; sys.exit(0 if os.path.exists('mended') else 3)"
    with pytest.raises(JobFailed, match="exit code 3"):
        perform(ledger, job_operation(ledger, yard.folder, code), yard.service())
    (yard.folder / "work" / "mended").touch()
    assert perform(ledger, job_operation(ledger, yard.folder, code), yard.service()).record.attempt == 2


def test_at_its_deadline_a_job_is_stopped_at_the_site(yard: Yard, ledger: Ledger) -> None:
    late = [0.0]
    code = "import time; open('began', 'w'); time.sleep(600); open('ended', 'w')"

    def passes(_step: str, _progress: Progress) -> None:
        if (yard.folder / "work" / "began").exists():
            late[0] = 31.0

    with Ledger(ledger.url, clock=lambda: time.time() + late[0]) as later, pytest.raises(DeadlinePassed):
        perform(later, job_operation(later, yard.folder, code, deadline=30.0), yard.service(), on_progress=passes)
    assert not (yard.folder / "work" / "ended").exists()
    (folder,) = (yard.folder / "jobs").iterdir()
    assert '"reason": "cancelled"' in (folder / "report.json").read_text()


def test_a_cancelled_job_is_cancelled_at_the_site(yard: Yard, ledger: Ledger) -> None:
    operation = job_operation(ledger, yard.folder, f"{COUNTING}time.sleep(60)")

    def cancel(_step: str, progress: Progress) -> None:
        if yard.runs():
            ledger.operations.request_cancel(operation.key)

    with pytest.raises(Cancelled):
        perform(ledger, operation, yard.service(), on_progress=cancel)
    eventually(lambda: not alive(yard.runs()[0]))
