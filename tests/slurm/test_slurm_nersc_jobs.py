"""`NerscJobs` on a real Slurm: its scripts are what sbatch takes, its states are what Slurm says."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from slurm_lab import Lab, until

import orchestration
from orchestration.config import Credentials, NerscSite
from orchestration.errors import Cancelled, JobFailed, JobPreempted, JobTimedOut, NodeFailed, OperationFailed
from orchestration.jobs import JobSpec, Output, Resources
from orchestration.ledger.service import CancelAnswer, Failed, Running, Status, Succeeded
from orchestration.nersc.jobs import NerscJobs
from orchestration.nersc.memory import Patience
from orchestration.sandbox.slurm.files import SCRATCH
from orchestration.sandbox.testing import submit

pytestmark = pytest.mark.slurm

PYTHON = """#!/bin/sh
export PYTHONPATH={place}
exec /usr/bin/python3 "$@"
"""


@pytest.fixture(scope="module")
def python(lab: Lab) -> str:
    """The science programs, installed as far as the runner of jobs needs them, for the python of the machine."""
    place = lab.scratch("science")
    shutil.copytree(Path(orchestration.__file__).parent / "science", place / "orchestration" / "science")
    (place / "orchestration" / "__init__.py").touch()
    metadata = place / f"beamline_orchestration-{version('beamline-orchestration')}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: beamline-orchestration\nVersion: {version('beamline-orchestration')}\n"
    )
    program = place / "python"
    program.write_text(PYTHON.format(place=SCRATCH / "science"))
    program.chmod(0o755)
    return str(SCRATCH / "science" / "python")


@pytest.fixture
def jobs(lab: Lab, python: str) -> Iterator[NerscJobs]:
    words = lab.facility.nersc_environment()
    site = NerscSite.model_validate(
        {
            "kind": "nersc",
            "raw_endpoint": "raw",
            "scratch_endpoint": "scratch",
            "job_folder": str(SCRATCH / "jobs"),
            "python": python,
            "queue": "realtime",
            "account": "als",
            "constraint": "cpu",
            "api_url": words["SFAPI_API_URL"],
            "token_url": words["SFAPI_TOKEN_URL"],
        }
    ).known_as("perlmutter")
    credentials = Credentials(
        path_nersc_client_id=Path(words["PATH_NERSC_CLIENT_ID"]), path_nersc_pri_key=Path(words["PATH_NERSC_PRI_KEY"])
    )
    # Where tests wait for what comes, longer than that may take on a slow machine.
    patience = Patience(settle=1.0, task=60.0, report=3.0, unknown=60.0, accounting=60.0, cancel=60.0, status=0.0)
    found = NerscJobs(site, credentials, patience=patience)
    yield found
    for row in found.mine():
        found.cancel_number(row.id)


def shell(text: str, **changes: Any) -> JobSpec:
    words: dict[str, Any] = {
        "executable": "/bin/sh",
        "arguments": ("-c", text),
        "directory": str(SCRATCH / "work"),
        "duration": 60.0,
        "resources": Resources(memory=200 * 1024**2),
        "name": "reconstruct",
    }
    return JobSpec(**words | changes)


def token() -> str:
    return f"key-{time.time_ns()}-1"


def ended(jobs: NerscJobs, spec: JobSpec, handle: str, *, within: float = 120.0) -> Status:
    until = time.monotonic() + within
    while True:
        status = jobs.poll(spec, handle)
        if isinstance(status, Succeeded | Failed):
            return status
        assert time.monotonic() < until, status
        time.sleep(0.1)


def running(jobs: NerscJobs, lab: Lab, spec: JobSpec) -> str:
    lab.scratch("work/begun").unlink(missing_ok=True)
    handle = submit(jobs, spec, jobs.reserve(token()))
    until(lab.scratch("work/begun").exists, within=60.0)
    return handle


def slurms_state(jobs: NerscJobs, handle: str) -> str:
    """As squeue has it; empty if it does not list the job."""
    return next((row.state for row in jobs.mine() if row.id == handle.partition(" ")[0]), "")


def test_a_job_of_a_hostile_name_is_believed_to_its_report(jobs: NerscJobs, lab: Lab) -> None:
    name = "$(touch pwned) 'a\"b\n#SBATCH --qos=debug"
    spec = shell('printf %s "$WORD" > rec.tif; sleep 1', environment={"WORD": name}, outputs=(Output(path="rec.tif"),))
    status = ended(jobs, spec, submit(jobs, spec, jobs.reserve(token())))
    assert isinstance(status, Succeeded)
    assert lab.scratch("work/rec.tif").read_text() == name
    assert status.evidence["state"] == "COMPLETED"
    assert isinstance(status.evidence["queue_seconds"], float)
    assert float(str(status.evidence["run_seconds"])) >= 1.0
    assert not lab.home("pwned").exists()


def test_slurm_takes_every_option(jobs: NerscJobs) -> None:
    resources = Resources(cores=64, gpus=4, memory=8 * 1024**3, exclusive=True)
    spec = shell("sleep 60", resources=resources, constraint="gpu", queue="regular", start_within=600.0)
    handle = submit(jobs, spec, jobs.reserve(token()))
    until(lambda: slurms_state(jobs, handle), within=60.0)
    row = next(row for row in jobs.mine() if row.id == handle.partition(" ")[0])
    assert row.name == f"beamline.{handle.partition(' ')[2]}"
    assert jobs.cancel(handle) is CancelAnswer.CANCELLED


@pytest.mark.parametrize(
    ("text", "duration", "error", "said"),
    [("echo no rings >&2; exit 3", 60.0, JobFailed, "no rings"), ("sleep 600", 1.0, JobTimedOut, "limit of 1 s")],
)
def test_what_a_program_does_wrong_is_told(
    jobs: NerscJobs, text: str, duration: float, error: type[JobFailed], said: str
) -> None:
    spec = shell(text, duration=duration)
    status = ended(jobs, spec, submit(jobs, spec, jobs.reserve(token())))
    assert isinstance(status, Failed)
    assert type(status.error) is error
    assert said in status.error.what


# The administrator, who has another number than the owner of the jobs, cancels them.
@pytest.mark.parametrize(("state", "error"), [("NODE_FAIL", NodeFailed), ("CANCELLED", JobFailed)])
def test_what_slurm_does_to_a_job_is_told(jobs: NerscJobs, lab: Lab, state: str, error: type[OperationFailed]) -> None:
    spec = shell("touch begun; echo slice 3; sleep 600")
    handle = running(jobs, lab, spec)
    assert isinstance(jobs.poll(spec, handle), Running)
    lab.facility.client.superfacility.end_job(handle.partition(" ")[0], state)
    status = ended(jobs, spec, handle)
    assert isinstance(status, Failed)
    assert type(status.error) is error, status.error
    assert "its last words: slice 3" in status.error.what


def test_a_job_that_makes_room_for_another_is_told(jobs: NerscJobs, lab: Lab) -> None:
    spec = shell("touch begun; sleep 600", queue="preempt")
    handle = running(jobs, lab, spec)
    urgent = shell("true", resources=Resources(nodes=2, exclusive=True, memory=200 * 1024**2))
    wanted = submit(jobs, urgent, jobs.reserve(token()))
    status = ended(jobs, spec, handle)
    assert isinstance(status, Failed)
    assert type(status.error) is JobPreempted, status.error
    assert isinstance(ended(jobs, urgent, wanted), Succeeded)


def test_a_job_that_cannot_start_its_program_shows_slurms_log(jobs: NerscJobs) -> None:
    site = jobs.site.model_copy(update={"python": "/no/such/python"})
    broken = NerscJobs(site, jobs.credentials, patience=jobs.patience)
    spec = shell("true")
    status = ended(broken, spec, submit(broken, spec, broken.reserve(token())))
    assert isinstance(status, Failed)
    assert "exit code 127" in status.error.what
    assert "/no/such/python" in status.error.what


def test_running_and_waiting_jobs_are_cancelled(jobs: NerscJobs, lab: Lab) -> None:
    spec = shell("touch begun; sleep 600")
    handle = running(jobs, lab, spec)
    assert jobs.cancel(handle) is CancelAnswer.CANCELLED
    status = ended(jobs, spec, handle)
    assert isinstance(status, Failed)
    assert type(status.error) is Cancelled
    until(lambda: not slurms_state(jobs, handle), within=60.0)


def test_the_same_token_in_another_process_is_the_same_job(jobs: NerscJobs, lab: Lab) -> None:
    spec = shell("while [ ! -e go ]; do sleep 0.1; done")
    lab.scratch("work/go").unlink(missing_ok=True)
    key = token()
    name = jobs.reserve(key)
    handle = submit(jobs, spec, name)
    other = NerscJobs(jobs.site, jobs.credentials, patience=jobs.patience)
    assert submit(other, spec, name) == handle
    assert other.reserve(key) == name, "another ledger finds the job of its key"
    lab.folder("work").joinpath("go").touch()
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    assert NerscJobs(jobs.site, jobs.credentials, patience=jobs.patience).find(spec, name) == handle


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"queue": "bogus"}, "Invalid qos specification"),
        ({"account": "nobody"}, "Invalid account or account/partition combination specified"),
        ({"constraint": "quantum"}, "Invalid feature specification"),
        ({"reservation": "never"}, "Requested reservation is invalid"),
        ({"duration": 900_000.0}, "Requested time limit is invalid"),
        ({"queue": "debug", "duration": 7200.0}, "QOSMaxWallDurationPerJobLimit"),
        ({"resources": Resources(nodes=100)}, "Node count specification invalid"),
        ({"resources": Resources(gpus=64), "constraint": "gpu"}, "Requested node configuration is not available"),
    ],
)
def test_slurms_refusal_is_told_in_its_own_words(jobs: NerscJobs, wish: dict[str, Any], said: str) -> None:
    with pytest.raises(JobFailed, match=said):
        submit(jobs, shell("true", **wish), jobs.reserve(token()))


def test_a_program_starts_its_processes_in_the_room_that_was_asked_for(jobs: NerscJobs, lab: Lab) -> None:
    resources = Resources(nodes=2, processes_per_node=2, cores=2, memory=200 * 1024**2)
    words = ("-l", "sh", "-c", "echo rank $SLURM_PROCID of $SLURM_NTASKS on $SLURM_NODEID")
    spec = replace(shell("", resources=resources), executable="srun", arguments=words)
    status = ended(jobs, spec, submit(jobs, spec, jobs.reserve(token())))
    assert isinstance(status, Succeeded), status
    lines = sorted(line.partition(": ")[2] for line in str(status.evidence["stdout"]).splitlines())
    assert lines == [f"rank {rank} of 4 on {rank // 2}" for rank in range(4)]
