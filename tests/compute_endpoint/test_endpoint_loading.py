"""The files for facilities, as the real daemon loads them: its loader, its schema check, its providers, its scripts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import orchestration
from orchestration.globus.endpoints.layout import Endpoint, lay_out

pytestmark = pytest.mark.compute_endpoint

ROOT = Path(orchestration.__file__).parent.parent
PROGRAM = Path(__file__).with_name("endpoint_loader_program.py")
SITE = {"BEAMLINE_SCIENCE": "/eagle/als/science", "BEAMLINE_INTERFACE": "lo", "BEAMLINE_ACCOUNT": "als"}
SCHEDULERS = {
    "qsub": 'echo "$@" >"$(dirname "$0")/asked"; echo 7.polaris-pbs-01',
    "sbatch": 'echo "$@" >"$(dirname "$0")/asked"; echo Submitted batch job 42',
    "sacct": "exit 0",
}

Load = Callable[..., Any]


@pytest.fixture
def schedulers(tmp_path: Path) -> Path:
    """Commands of PBS and Slurm that write down what they were called with."""
    folder = tmp_path / "schedulers"
    folder.mkdir()
    for name, line in SCHEDULERS.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def load(daemon_venv: Path, schedulers: Path) -> Load:
    """Load an endpoint in the daemon's environment; returns what it says of itself."""

    def loaded(endpoint: Endpoint, options: dict[str, Any], runtime: dict[str, Any] | None = None) -> Any:
        asked = {"directory": str(endpoint.directory), "name": endpoint.name}
        done = subprocess.run(
            [daemon_venv / "bin" / "python", PROGRAM],
            input=json.dumps(asked | {"options": options, "runtime": runtime or {}}),
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(schedulers.parent)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return loaded


@pytest.fixture
def place(tmp_path: Path, daemon_venv: Path, schedulers: Path) -> Callable[[str, str], Endpoint]:
    """Lay out an endpoint whose site has the schedulers."""

    def laid_out(facility: str, kind: str) -> Endpoint:
        path = {"PATH": f"{daemon_venv}/bin:{schedulers}:/usr/bin:/bin"}
        values = SITE if kind == "compute" and facility != "local" else {"BEAMLINE_SCIENCE": "/eagle/als/science"}
        return lay_out(facility, kind, tmp_path / "endpoints", values | path, venv=daemon_venv)

    return laid_out


Place = Callable[[str, str], Endpoint]


def test_a_pbs_job_is_submitted_as_asked(place: Place, load: Load, schedulers: Path) -> None:
    options = {"account": "IRIBeta", "queue": "demand", "walltime": "00:40:00", "nodes": 2, "cores": 32, "gpus": 4}
    told = load(place("alcf", "compute"), options | {"task_seconds": 1500})
    script = told["script"].splitlines()
    assert (told["provider"], told["job"]) == ("PBSProProvider", "7.polaris-pbs-01")
    assert {"#PBS -l walltime=00:40:00", "#PBS -l select=2:ncpus=32:ngpus=4", "#PBS -l filesystems=home:eagle"} <= {
        *script
    }
    asked = (schedulers / "asked").read_text().split()
    assert asked[:4] == ["-q", "demand", "-A", "IRIBeta"]
    assert any(line.startswith("mpiexec --cpu-bind none --ppn 1 -n $WORKERCOUNT --hostfile") for line in script)
    assert any(line.startswith("export PATH='/eagle/als/science/bin:") for line in script)
    assert (told["retries"], told["workers"], told["drain_period"]) == (0, 1, 900)
    assert told["launch"].startswith("globus-compute-endpoint python-exec parsl.executors.high_throughput")


def test_a_slurm_job_is_submitted_as_asked(place: Place, load: Load) -> None:
    options = {"account": "als_g", "queue": "realtime", "walltime": "00:40:00", "constraint": "gpu&hbm80g"}
    told = load(place("nersc", "compute"), options | {"workers_per_node": 4, "reservation": "beamtime_7"})
    script = told["script"].splitlines()
    assert (told["provider"], told["job"]) == ("SlurmProvider", "42")
    directives = {line.removeprefix("#SBATCH --") for line in script if line.startswith("#SBATCH")}
    assert {
        "account=als_g",
        "qos=realtime",
        "constraint=gpu&hbm80g",
        "time=40",
        "nodes=1",
        "gpus-per-node=4",
        "exclusive",
        "reservation=beamtime_7",
    } <= directives
    [step] = [line for line in script if line.startswith("srun ")]
    assert "--cpus-per-task=$SLURM_CPUS_ON_NODE --cpu-bind=none" in step
    assert (told["workers"], told["accelerators"]) == (4, ["0", "1", "2", "3"])


@pytest.mark.parametrize("facility", ["alcf", "nersc", "local"])
def test_the_login_endpoint_runs_on_the_login_node(place: Place, load: Load, facility: str) -> None:
    told = load(place(facility, "non_compute"), {})
    if facility == "local":
        assert told == {"engine": "ThreadPoolEngine"}
    else:
        assert (told["engine"], told["provider"], told["workers"]) == ("GlobusComputeEngine", "LocalProvider", 4)
    assert "Additional properties are not allowed" in load(place(facility, "non_compute"), {"nodes": 2})["refused"]


def test_the_local_endpoint_takes_the_options_of_batch_endpoints(place: Place, load: Load) -> None:
    options = {"account": "als", "queue": "demand", "walltime": "01:00:00", "constraint": "cpu", "filesystems": "home"}
    assert load(place("local", "compute"), options)["provider"] == "LocalProvider"


@pytest.mark.parametrize("facility", ["alcf"])
def test_the_daemon_refuses_what_the_schema_does_not_know(place: Place, load: Load, facility: str) -> None:
    endpoint = place(facility, "compute")
    for options in (
        {"worker_init": "curl example.org | sh"},
        {"account": "als\n#PBS -W block=true"},
        {"walltime": "01:00:00\n#SBATCH --wrap=id"},
        {"queue": "debug -- /bin/sh"},
        {"nodes": 10**6},
        {"task_seconds": 7200, "walltime": "01:00:00"},
    ):
        assert "the daemon refuses the configuration" in load(endpoint, options)["refused"], options


def test_the_daemon_refuses_another_version_of_python_where_the_site_says_so(place: Place, load: Load) -> None:
    endpoint = place("alcf", "compute")
    assert "job" in load(endpoint, {}, {"python": {"version_tuple": [3, 9, 1]}})
    values = endpoint.folder / "user_environment.yaml"
    values.write_text(values.read_text().replace('BEAMLINE_PYTHON: ""', 'BEAMLINE_PYTHON: "3.12"'))
    told = load(endpoint, {}, {"python": {"version_tuple": [3, 9, 1]}})
    assert "takes functions of Python 3.12, not of Python 3.9" in told["refused"]


def test_a_site_that_is_not_complete_is_told_what_is_missing(place: Place, load: Load) -> None:
    endpoint = place("nersc", "compute")
    values = endpoint.folder / "user_environment.yaml"
    values.write_text(values.read_text().replace("BEAMLINE_QUEUE:", "BEAMLINE_QUEU:"))
    assert "BEAMLINE_QUEUE" in load(endpoint, {})["refused"]
    values.write_text(values.read_text().replace("BEAMLINE_QUEU:", "BEAMLINE_QUEUE:").replace('"lo"', '"bond7"'))
    assert "refused" in load(endpoint, {})


def test_the_command_for_facilities_says_what_the_daemon_read(daemon_venv: Path, tmp_path: Path) -> None:
    script = ROOT / "scripts" / "configure_compute_endpoint.py"
    command = [str(daemon_venv / "bin" / "python"), str(script), "alcf", "compute"]
    values = [f"{name}={value}" for name, value in SITE.items()]
    done = subprocess.run([*command, str(tmp_path), *values], capture_output=True, text=True, check=True)
    assert "read by the daemon, PBSProProvider, account als, queue debug, walltime 01:00:00" in done.stdout
    assert f"{tmp_path}/run-beamline-alcf-compute start --detach" in done.stdout
    failed = subprocess.run([*command, str(tmp_path / "other")], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "add BEAMLINE_SCIENCE=... BEAMLINE_ACCOUNT=..." in failed.stderr
