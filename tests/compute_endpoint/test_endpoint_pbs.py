"""The endpoint for ALCF with the real program; its batch jobs are those of commands that speak as PBS does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pbs_commands import install, jobs

from orchestration.sandbox.endpoint_program import EndpointProgram, running_endpoint
from orchestration.sandbox.testing import RunningFacility, endpoint_environment, running_facility

pytestmark = pytest.mark.compute_endpoint

PROGRAM = Path(__file__).with_name("compute_sdk_program.py")


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alcf")


@pytest.fixture(scope="module")
def scheduler(grounds: Path) -> Path:
    install(grounds / "pbs")
    return grounds / "pbs"


@pytest.fixture(scope="module")
def facility(grounds: Path, daemon_venv: Path) -> Iterator[RunningFacility]:
    with running_facility(grounds / "facility") as found:
        yield found


@pytest.fixture(scope="module")
def polaris(grounds: Path, facility: RunningFacility, scheduler: Path, daemon_venv: Path) -> Iterator[EndpointProgram]:
    values = {
        "PATH": f"{daemon_venv}/bin:{scheduler}:/usr/bin:/bin",
        "BEAMLINE_SCIENCE": sys.prefix,
        "BEAMLINE_ACCOUNT": "IRIBeta",
        "BEAMLINE_INTERFACE": "lo",
        "BEAMLINE_IDLE_SECONDS": "3",
    }
    with running_endpoint(facility, grounds / "jobs", venv=daemon_venv, values=values, site="alcf") as program:
        yield program


def submitted(
    grounds: Path, facility: RunningFacility, endpoint: EndpointProgram, *words: str, **options: object
) -> Any:
    variables = endpoint_environment(facility.url) | {"GLOBUS_COMPUTE_USER_DIR": str(grounds / "sdk")}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), endpoint.id, *words, json.dumps(options)],
        env={"PATH": os.environ["PATH"], "HOME": str(grounds), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def until(true: Callable[[], object], *, within: float = 120.0) -> None:
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.2)


def test_a_task_runs_in_a_batch_job_that_ends_when_it_is_idle(
    grounds: Path, facility: RunningFacility, polaris: EndpointProgram, scheduler: Path
) -> None:
    known = len(jobs(scheduler))
    seen = submitted(grounds, facility, polaris, "variables", "", queue="demand", walltime="00:30:00")["result"]
    [job] = jobs(scheduler)[known:]
    assert job["asked"] == {"-q": "demand", "-A": "IRIBeta"}
    assert "#PBS -l walltime=00:30:00" in str(job["directives"])
    assert seen["PBS_JOBID"] == job["id"]
    assert seen["PATH"].startswith(f"{sys.prefix}/bin:")
    assert "CUDA_VISIBLE_DEVICES" not in seen  # a job alone on its node has all GPUs
    assert endpoint_environment("")["GLOBUS_COMPUTE_CLIENT_SECRET"] not in "\n".join(seen.values())
    until(lambda: not Path(f"/proc/{job['group']}").exists())


def test_a_batch_job_ends_before_it_takes_a_task_that_it_could_not_finish(
    grounds: Path, facility: RunningFacility, polaris: EndpointProgram, scheduler: Path
) -> None:
    asked = {"walltime": "00:03:00", "task_seconds": 150, "idle_seconds": 600}
    seen = submitted(grounds, facility, polaris, "variables", "", **asked)["result"]
    [job] = [one for one in jobs(scheduler) if one["id"] == seen["PBS_JOBID"]]
    # Half a minute after its start less than 150 of its 180 seconds are left.
    until(lambda: not Path(f"/proc/{job['group']}").exists())
