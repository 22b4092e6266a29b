"""The service's own jobs at the real endpoint programs: worker processes for the jobs, threads for light work."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from orchestration.conditions import SiteState
from orchestration.config import ComputeEndpoints, Credentials, GlobusComputeSite
from orchestration.errors import Cancelled, JobFailed, JobLost, ServiceUnavailable
from orchestration.globus.compute import GlobusCompute
from orchestration.globus.compute_ending import Patience
from orchestration.jobs import JobSpec, Output, OutputKind
from orchestration.ledger.service import CancelAnswer, Failed, Running, Status, Succeeded
from orchestration.sandbox.endpoint_program import EndpointProgram, running_endpoint
from orchestration.sandbox.settings import CLIENT_ID, CLIENT_SECRET
from orchestration.sandbox.testing import RunningFacility, running_facility, submit

pytestmark = pytest.mark.compute_endpoint

CREDENTIALS = Credentials(globus_compute_client_id=CLIENT_ID, globus_compute_client_secret=SecretStr(CLIENT_SECRET))
OPTIONS: dict[str, str | int] = {"walltime": "01:00:00", "task_seconds": 1800, "nodes": 1, "gpus": 4}
SECONDS = 120.0
"""For what takes a few, even where everything else runs at the same time."""


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def facility(grounds: Path, daemon_venv: Path) -> Iterator[RunningFacility]:
    with running_facility(grounds / "facility") as found:
        yield found


@pytest.fixture(scope="module")
def login(grounds: Path, facility: RunningFacility, daemon_venv: Path) -> Iterator[EndpointProgram]:
    with running_endpoint(facility, grounds / "login", venv=daemon_venv, kind="non_compute") as program:
        yield program


@pytest.fixture(scope="module")
def batch(grounds: Path, facility: RunningFacility, daemon_venv: Path) -> Iterator[EndpointProgram]:
    values = {"BEAMLINE_SCIENCE": sys.prefix}
    with running_endpoint(facility, grounds / "batch", venv=daemon_venv, values=values) as program:
        yield program


@pytest.fixture
def service(
    facility: RunningFacility,
    batch: EndpointProgram,
    login: EndpointProgram,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> GlobusCompute:
    for name, value in facility.environment().items():
        monkeypatch.setenv(name, value)
    site = GlobusComputeSite(
        name="alcf",
        kind="globus_compute",
        raw_endpoint="raw",
        scratch_endpoint="scratch",
        job_folder=str(tmp_path / "jobs"),
        python=sys.executable,
        service_url=f"{facility.url}/compute",
        endpoints=ComputeEndpoints(compute=UUID(batch.id), non_compute=UUID(login.id)),
        options={**OPTIONS},
    )
    return GlobusCompute(site, CREDENTIALS, patience=Patience(unknown=3.0, dead=9.0, cancel=60.0, look=1.0))


def job(folder: Path, code: str, *, output: str = "") -> JobSpec:
    outputs = (Output(path=output, kind=OutputKind.JSON),) if output else ()
    return JobSpec(
        executable=sys.executable,
        arguments=("-S", "-c", textwrap.dedent(code)),
        directory=str(folder / "work"),
        duration=120.0,
        outputs=outputs,
        queue="demand",
        account="IRIBeta",
    )


COUNTED = """
import os, time
open("runs", "a").write(f"{os.getpid()}\\n")
time.sleep(60)
"""


def wait(
    service: GlobusCompute,
    spec: JobSpec,
    handle: str,
    *,
    seconds: float = SECONDS,
    until: Callable[[Status], bool] = lambda status: not isinstance(status, Running),
) -> Status:
    end = time.monotonic() + seconds
    while True:
        try:
            status: Status | None = service.poll(spec, handle)
        except ServiceUnavailable:
            status = None
        if status is not None and until(status):
            return status
        assert time.monotonic() < end, status
        time.sleep(0.1)


def begun(folder: Path, seconds: float = SECONDS) -> int:
    """The process of the job, once it runs."""
    end = time.monotonic() + seconds
    runs = folder / "work" / "runs"
    while not (runs.exists() and runs.read_text().endswith("\n")):
        assert time.monotonic() < end, "the job did not begin"
        time.sleep(0.05)
    return int(runs.read_text().split()[0])


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(process: int, seconds: float = SECONDS) -> bool:
    end = time.monotonic() + seconds
    while alive(process) and time.monotonic() < end:
        time.sleep(0.1)
    return not alive(process)


def accepted(facility: RunningFacility, handle: str) -> None:
    """Wait until the program has told that it has the task: one that it has not would be given out again."""
    task = handle.rpartition("/")[2]
    end = time.monotonic() + SECONDS
    while not any(one["id"] == task and one["accepted"] for one in facility.client.compute.tasks()):
        assert time.monotonic() < end, "the task was not acknowledged"
        time.sleep(0.1)


def test_a_job_runs_on_a_worker_and_its_outputs_are_checked(service: GlobusCompute, tmp_path: Path) -> None:
    assert service.condition().state is SiteState.UP
    spec = job(tmp_path, 'open("out.json", "w").write("[1]"); print("done")', output="out.json")
    status = wait(service, spec, submit(service, spec, service.reserve("key")))
    assert isinstance(status, Succeeded), status
    assert status.evidence["stdout"] == "done\n"
    spec = job(tmp_path, 'raise SystemExit("no such scan")')
    failed = wait(service, spec, submit(service, spec, service.reserve("other")))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, JobFailed)
    assert "no such scan" in str(failed.evidence)


def test_a_cancelled_job_ends_at_the_endpoint(service: GlobusCompute, tmp_path: Path) -> None:
    spec = job(tmp_path, COUNTED)
    handle = submit(service, spec, service.reserve("key"))
    process = begun(tmp_path)
    assert service.cancel(handle) is CancelAnswer.CANCELLED
    assert gone(process)
    ended = wait(service, spec, handle)
    assert isinstance(ended, Failed)
    assert isinstance(ended.error, Cancelled)


def test_a_job_whose_worker_was_killed_is_lost(service: GlobusCompute, tmp_path: Path) -> None:
    """As the batch system does it at the end of a job's walltime, or for want of memory."""
    spec = job(tmp_path, COUNTED)
    handle = submit(service, spec, service.reserve("key"))
    process = begun(tmp_path)
    os.kill(_worker(process), signal.SIGKILL)
    assert gone(process)
    ended = wait(service, spec, handle)
    assert isinstance(ended, Failed)
    assert isinstance(ended.error, JobFailed)
    assert len((tmp_path / "work" / "runs").read_text().split()) == 1


def test_a_job_whose_endpoint_was_killed_is_lost_and_not_run_again(
    service: GlobusCompute, facility: RunningFacility, batch: EndpointProgram, tmp_path: Path
) -> None:
    spec = job(tmp_path, COUNTED)
    handle = submit(service, spec, service.reserve("key"))
    process = begun(tmp_path)
    accepted(facility, handle)
    batch.kill()
    assert gone(process)
    batch.start()
    following = job(tmp_path / "next", 'open("out.json", "w").write("2")', output="out.json")
    status = wait(service, following, submit(service, following, service.reserve("other")))
    assert isinstance(status, Succeeded), status
    waits = service.poll(spec, handle)  # as Globus Compute has it: for ever
    assert isinstance(waits, Running), waits
    later = replace(service, patience=replace(service.patience, ending=-spec.duration))  # as when its time is over
    ended = wait(later, spec, handle)
    assert isinstance(ended, Failed)
    assert isinstance(ended.error, JobLost)
    assert len((tmp_path / "work" / "runs").read_text().split()) == 1


def _worker(process: int) -> int:
    """The process of the endpoint's worker above a job's: that which started the job's runner."""
    while True:
        parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        if "orchestration.science" not in Path(f"/proc/{parent}/cmdline").read_text():
            return parent
        process = parent
