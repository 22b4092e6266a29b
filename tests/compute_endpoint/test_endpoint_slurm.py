"""The endpoint for NERSC as its page says to set it up: by an ordinary user, on a real Slurm, with the real program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import orchestration
from orchestration.sandbox.slurm import requirements
from orchestration.sandbox.slurm.cluster import Cluster, Plan
from orchestration.sandbox.slurm.files import HOME, USER, USER_ID
from orchestration.sandbox.testing import RunningFacility, endpoint_environment, running_facility

pytestmark = [pytest.mark.compute_endpoint, pytest.mark.slurm]

ROOT = Path(orchestration.__file__).parent.parent
PROGRAM = Path(__file__).with_name("compute_sdk_program.py")
NAME = "beamline-nersc-compute"


@dataclass(frozen=True, kw_only=True)
class LoginNode:
    """Commands as the user of the facility gives them; `home` is its home directory as it sees it."""

    cluster: Cluster
    facility: RunningFacility
    home: PurePosixPath

    def run(self, *argv: object) -> str:
        words = ["runuser", "-u", USER, "--", *map(str, argv)]
        variables = {**self.cluster.environment, "HOME": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            self.cluster.entering(words, directory=str(self.home)),
            env=variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def outside(self, name: str) -> Path:
        """A file of the user's home, as this machine finds it."""
        return self.cluster.files.outside(self.home / name)


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory, daemon_venv: Path) -> Iterator[LoginNode]:
    if obstacle := requirements.obstacle():
        pytest.skip(obstacle)
    ground = tmp_path_factory.mktemp("nersc")
    cluster = Cluster(ground / "cluster", Plan(python=Path(sys.executable), shown=(ROOT, daemon_venv)))
    cluster.up()
    try:
        with running_facility(ground / "facility") as facility:
            yield LoginNode(cluster=cluster, facility=facility, home=PurePosixPath(HOME))
    finally:
        cluster.remove()


@pytest.fixture(scope="module")
def endpoint(login: LoginNode, daemon_venv: Path) -> Iterator[str]:
    """Set up and started as the page says; its id."""
    values = {
        "BEAMLINE_SCIENCE": sys.prefix,
        "BEAMLINE_ACCOUNT": "als",
        "BEAMLINE_QUEUE": "realtime",
        "BEAMLINE_INTERFACE": "lo",
        "BEAMLINE_WALLTIME": "00:20:00",
        "BEAMLINE_IDLE_SECONDS": "5",
    }
    folder = login.home / "beamline-endpoints"
    told = login.run(
        daemon_venv / "bin" / "python",
        ROOT / "scripts" / "configure_compute_endpoint.py",
        *("nersc", "compute", folder),
        *(f"{name}={value}" for name, value in values.items()),
    )
    assert "read by the daemon, SlurmProvider, account als, qos realtime, constraint cpu, walltime 00:20:00" in told
    lines = [f"{name}={value}" for name, value in endpoint_environment(login.facility.url).items()]
    secrets = login.outside("beamline-endpoints/credentials.env")
    secrets.write_text("\n".join(lines) + "\n")
    os.chown(secrets, USER_ID, USER_ID)
    secrets.chmod(0o600)
    login.run(folder / f"run-{NAME}", "start", "--detach")
    shown = login.outside(f"beamline-endpoints/{NAME}/endpoint.json")
    until = time.monotonic() + 120
    while not shown.exists():
        assert time.monotonic() < until, login.outside(f"beamline-endpoints/{NAME}/endpoint.log").read_text()
        time.sleep(0.1)
    yield str(json.loads(shown.read_text())["endpoint_id"])
    login.run(folder / f"run-{NAME}", "stop")


def submitted(login: LoginNode, endpoint: str, function: str, argument: str, options: dict[str, Any]) -> Any:
    variables = endpoint_environment(login.facility.url) | {"GLOBUS_COMPUTE_USER_DIR": str(login.outside("sdk"))}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), endpoint, function, argument, json.dumps(options)],
        env={"PATH": os.environ["PATH"], "HOME": str(login.cluster.files.root), **variables},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_task_runs_in_a_batch_job_of_its_account_and_quality_of_service(login: LoginNode, endpoint: str) -> None:
    seen = submitted(login, endpoint, "variables", "", {"walltime": "00:10:00"})["result"]
    assert (seen["SLURM_JOB_ACCOUNT"], seen["SLURM_JOB_QOS"]) == ("als", "realtime")
    assert seen["USER"] == USER
    assert seen["PATH"].startswith(f"{sys.prefix}/bin:")
    # All cores of the node, and not the one to which srun would have bound it.
    assert seen["SLURM_CPUS_PER_TASK"] == seen["SLURM_CPUS_ON_NODE"]
    secret = endpoint_environment("")["GLOBUS_COMPUTE_CLIENT_SECRET"]
    assert secret not in "\n".join(seen.values())
    until = time.monotonic() + 120
    while login.run("squeue", "-h", "--me"):
        assert time.monotonic() < until, "an idle batch job was kept"
        time.sleep(0.5)


def test_what_slurm_refuses_reaches_who_submitted(login: LoginNode, endpoint: str) -> None:
    """The program ends itself once all its batch jobs were refused, and now and then does so before it has answered."""
    for _ in range(3):
        refused = submitted(login, endpoint, "double", "x", {"account": "nobody", "walltime": "00:10:00"})
        if refused.get("error") != TimeoutError.__name__:
            break
    assert refused["error"] == "TaskExecutionFailed"
    assert "Invalid account or account/partition combination" in refused["text"]
