"""Jobs that seem lost, and reports that cannot be read: nothing is done again that may go on, or may be done."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from iri_ground import QUICK, Ground, ended, failure, until

from orchestration.errors import (
    Cancelled,
    ConfigError,
    JobLost,
    JobNotStarted,
    JobPreempted,
    NodeFailed,
    OrchestrationError,
    OutputMissing,
    ServiceUnavailable,
)
from orchestration.iri.jobs import IriJobs
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer, Running, Succeeded
from orchestration.sandbox.testing import submit

ONE = "GET .*/compute/status"
"""The question about one job."""

FILES = "/filesystem/"


def folder(ground: Ground, handle: str) -> Path:
    return ground.folder / "jobs" / handle.partition("@")[2]


def waiting(ground: Ground, jobs: IriJobs, spec: JobSpec) -> str:
    """The handle of a job that waits in the queue until it is let begin."""
    ground.control.hold()
    return submit(jobs, spec, ground.token(jobs))


def begun(ground: Ground, jobs: IriJobs, spec: JobSpec) -> str:
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: ground.runs == 1)
    return handle


def test_a_job_that_is_not_shown_any_more_is_lost_only_once_it_can_not_begin(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    first = waiting(ground, jobs, spec)
    ground.facility.client.faults.add(ONE, status=404, times=0)
    assert isinstance(failure(ended(jobs, spec, first)).error, JobLost)
    ground.facility.client.faults.clear()
    second = submit(jobs, spec, jobs.reserve(f"{ground.folder.name}-2"))  # as the next attempt does
    ground.control.hold(held=False)
    assert isinstance(ended(jobs, spec, second), Succeeded)
    late = failure(ended(ground.jobs(version), spec, first)).error
    assert isinstance(late, JobLost), "nobody wished to cancel it"
    assert "was stopped" in late.what
    assert (ground.submitted(), ground.runs) == (2, 1)


def test_a_job_that_is_not_shown_any_more_is_lost_only_once_it_has_stopped(ground: Ground) -> None:
    jobs, spec = ground.jobs(2, patience=replace(QUICK, report=60.0)), ground.spec("import time; time.sleep(300)")
    handle = begun(ground, jobs, spec)
    ground.facility.client.faults.add(ONE, status=404, times=0)
    assert isinstance(failure(ended(jobs, spec, handle)).error, JobLost)
    assert (folder(ground, handle) / "report.json").exists()
    until(lambda: ground.alive() == [])


def test_a_job_of_which_nothing_is_certain_is_not_lost(ground: Ground) -> None:
    jobs, spec = ground.jobs(2, patience=replace(QUICK, unknown=0.0)), ground.spec()
    handle = waiting(ground, jobs, spec)
    ground.facility.client.faults.add(ONE, status=404, times=0)
    ground.facility.client.faults.add("filesystem/mkdir", status=501, times=0)
    until(lambda: _refused(jobs, spec, handle))
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="cannot be made"):
            jobs.poll(spec, handle)
    ground.facility.client.faults.clear()
    ground.control.hold(held=False)
    assert isinstance(ended(jobs, spec, handle), Succeeded)


def test_what_a_person_cancelled_is_not_lost(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec("import time; time.sleep(300)")
    handle = begun(ground, jobs, spec)
    ground.facility.client.faults.add("DELETE .*/compute/cancel", status=400, times=0)
    assert jobs.cancel(handle) is CancelAnswer.REFUSED  # and its folder stops it all the same
    until(lambda: (folder(ground, handle) / "report.json").exists())
    ground.facility.client.faults.add(ONE, status=404, times=0)
    assert isinstance(failure(ended(jobs, spec, handle)).error, Cancelled)


@pytest.mark.parametrize(
    ("state", "error"), [("NODE_FAIL", NodeFailed), ("PREEMPTED", JobPreempted), ("DEADLINE", JobNotStarted)]
)
def test_what_may_be_done_again_is_kept_from_beginning_first(
    ground: Ground, state: str, error: type[OrchestrationError]
) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    handle = waiting(ground, jobs, spec)
    ground.control.end(handle.partition("@")[0], state)
    ground.facility.client.faults.add("filesystem/mkdir", times=0)
    until(lambda: _refused(jobs, spec, handle))
    ground.facility.client.faults.clear()
    assert type(failure(ended(jobs, spec, handle)).error) is error
    assert (folder(ground, handle) / "cancel").is_dir()


def _refused(jobs: IriJobs, spec: JobSpec, handle: str) -> bool:
    """Whether there is no answer to be had. Anything but that would be one too early."""
    try:
        assert isinstance(jobs.poll(spec, handle), Running)
    except ServiceUnavailable:
        return True
    return False


@pytest.mark.parametrize("status", [400, 404, 501])
def test_a_report_that_the_facility_does_not_show_is_no_missing_report(
    ground: Ground, version: int, status: int
) -> None:
    jobs, spec = ground.jobs(version, patience=replace(QUICK, report=0.0, unknown=0.0)), ground.spec()
    ground.facility.client.faults.add(FILES, status=status, times=0)
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: _refused(jobs, spec, handle))
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="cannot be looked into"):
            jobs.poll(spec, handle)
    ground.facility.client.faults.clear()
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    assert (ground.submitted(), ground.runs) == (1, 1)


def test_a_file_that_is_there_and_is_not_shown_is_not_missing(ground: Ground) -> None:
    jobs, spec = ground.jobs(2, patience=replace(QUICK, report=0.0)), ground.spec()
    for operation in ("view", "download"):
        ground.facility.client.faults.add(f"filesystem/{operation}", status=400, times=0)
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: _refused(jobs, spec, handle))
    with pytest.raises(ServiceUnavailable, match="is there and cannot be read"):
        jobs.poll(spec, handle)


def test_a_task_that_the_facility_forgets_says_nothing_about_the_file(ground: Ground) -> None:
    jobs, spec = ground.jobs(2, patience=replace(QUICK, report=0.0)), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: (folder(ground, handle) / "report.json").exists() and not ground.alive())
    ground.facility.client.faults.add("GET .*/task/", status=404, times=2)
    with pytest.raises(ServiceUnavailable, match="its task is not known any more"):
        jobs.poll(spec, handle)
    assert isinstance(jobs.poll(spec, handle), Succeeded)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that jobs use and the facility's interface for files may not read."""
    path = Path(tempfile.mkdtemp(prefix="beamline-"))
    yield path
    shutil.rmtree(path)


def test_files_that_may_not_be_read_are_not_missing(ground: Ground, elsewhere: Path) -> None:
    jobs, spec = ground.jobs(2, patience=replace(QUICK, report=0.0), job_folder=str(elsewhere)), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: _refused(jobs, spec, handle))
    with pytest.raises(ServiceUnavailable, match="Permission denied") as doubt:
        jobs.poll(spec, handle)
    assert "`storage`" in doubt.value.next_step


def test_a_storage_that_is_not_there_is_a_setting_to_mend(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: not ground.alive())
    with pytest.raises(ConfigError, match="no resource 'eagle'"):
        ground.jobs(2, storage="eagle").poll(spec, handle)


def test_a_job_that_the_facility_calls_completed_is_not_done_again_for_want_of_a_report(ground: Ground) -> None:
    """Its file system may be another one than the settings say, and the results lie there."""
    jobs, spec = ground.jobs(2), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: not ground.alive())
    (folder(ground, handle) / "report.json").unlink()
    failed = failure(ended(jobs, spec, handle))
    assert isinstance(failed.error, OutputMissing)
    assert "left no report" in failed.error.what
    assert failed.evidence["facility_state"] == "completed"
