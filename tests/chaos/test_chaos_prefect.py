"""What Prefect leaves lying when workers, machines and its server die is picked up; what is cancelled is cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sandbox_hall import Hall, running, wait_for

from orchestration import config
from orchestration.ledger.operation import OperationState
from orchestration.ledger.runs import RunState
from orchestration.paths import RelativePath
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.testing_supervisor import running_sandbox
from orchestration.sandbox.trials.world import write_project

pytestmark = pytest.mark.slow

NEW_FILE = "new_832_file_flow/new_file_832"
FLOW = "new_832_file_flow"
DISPATCHER = "dispatcher/run_832_dispatcher"
RECONCILE = "reconcile/reconcile"


@pytest.fixture(scope="module")
def one_hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    folder = Path(tmp_path_factory.mktemp("hall"))
    with running_sandbox(folder / "sandbox", project_file=write_project(folder / "site")) as supervisor:
        variables = supervisor.environment
        with (
            SandboxClient(variables["BEAMLINE_SANDBOX_URL"]) as facility,
            httpx.Client(base_url=variables["PREFECT_API_URL"], timeout=60.0, trust_env=False, verify=False) as prefect,
        ):
            yield Hall(supervisor, facility, prefect)


@pytest.fixture
def hall(one_hall: Hall) -> Iterator[Hall]:
    one_hall.bandwidth(0.0)
    yield one_hall
    one_hall.bandwidth(0.0)


def once(hall: Hall, file_path: str) -> None:
    """Every effect of a new file happened, and once."""
    found = hall.effects(file_path)
    assert {kind: found.count(kind) for kind in ("transfer", "copied", "dataset")} == {
        "transfer": 2,
        "copied": 2,
        "dataset": 1,
    }
    assert all(one.state is OperationState.SUCCEEDED for one in hall.overview(file_path).operations)


def reconciled(hall: Hall, run: str, file_path: str) -> None:
    """The worker is back, somebody looked for dead runs, and this one was told as dead and carried on by another."""
    hall.bandwidth(0.0)
    hall.supervisor.up()
    hall.start(RECONCILE)
    wait_for(lambda: hall.state(run) == "CRASHED")
    wait_for(lambda: hall.record(run).state is RunState.DEAD)
    hall.completed(FLOW, file_path)
    once(hall, file_path)


def test_runs_of_a_worker_that_was_told_to_stop_are_carried_on(hall: Hall) -> None:
    file_path = hall.scan("worker_stopped.h5")
    run = hall.start_slowly(NEW_FILE, file_path)
    process, worker = hall.process_of(run), hall.worker()
    os.kill(worker, signal.SIGTERM)
    wait_for(lambda: not running(worker) and not running(process))
    reconciled(hall, run, file_path)


def test_runs_of_a_machine_that_died_are_carried_on(hall: Hall) -> None:
    file_path = hall.scan("machine_died.h5")
    run = hall.start_slowly(NEW_FILE, file_path)
    process, worker = hall.process_of(run), hall.worker()
    os.kill(worker, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: not running(worker) and not running(process))
    assert hall.state(run) == "RUNNING"
    reconciled(hall, run, file_path)


def test_a_branch_whose_process_died_is_started_again_by_its_dispatcher(hall: Hall) -> None:
    file_path = hall.scan("branch_died.h5")
    run = hall.start_slowly(DISPATCHER, file_path)
    branch = hall.record_of(FLOW, file_path)
    os.kill(hall.process_of(branch.id), signal.SIGKILL)
    hall.bandwidth(0.0)
    wait_for(lambda: hall.state(run) not in {"RUNNING", "PENDING"})
    assert hall.state(run) == "COMPLETED"
    assert hall.state(branch.id) == "CRASHED"
    assert hall.effects(file_path).count("transfer") == 2
    assert all(one.state is OperationState.SUCCEEDED for one in hall.overview(file_path).operations)


def test_a_run_outlives_the_death_of_the_server(hall: Hall) -> None:
    file_path = hall.scan("server_died.h5")
    run = hall.start_slowly(NEW_FILE, file_path)
    hall.kill_server()
    hall.bandwidth(0.0)
    threading.Event().wait(20.0)
    hall.start_server()
    wait_for(lambda: hall.state(run) == "COMPLETED")
    hall.completed(FLOW, file_path)
    once(hall, file_path)


def test_cancelling_a_run_cancels_its_transfer(hall: Hall) -> None:
    file_path = hall.scan("cancelled.h5")
    run = hall.start_slowly(NEW_FILE, file_path)
    hall.cancel(run)
    wait_for(lambda: hall.state(run) == "CANCELLED")
    wait_for(lambda: hall.record(run).state is RunState.CANCELLED)
    operation = hall.overview(file_path).operations[-1]
    assert operation.state is OperationState.CANCELLED
    hall.bandwidth(0.0)
    assert "copied" not in hall.effects(file_path)
    assert not (hall.supervisor.layout.endpoints / "data832" / "data" / "raw" / "hall" / "cancelled.h5").exists()


def test_a_scan_is_cancelled_although_the_server_is_away(hall: Hall) -> None:
    file_path = hall.scan("cancelled_in_the_dark.h5")
    run = hall.start_slowly(NEW_FILE, file_path)
    process = hall.process_of(run)
    hall.kill_server()
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "orchestration.cli", "cancel", Path(file_path).stem],
            env={**os.environ, **hall.supervisor.environment},
            capture_output=True,
            text=True,
            timeout=180.0,
            check=False,
        )
        assert answer.returncode == 1, answer
        (doubt,) = [line for line in answer.stdout.splitlines() if "has not confirmed" in line]
        assert doubt.startswith("runs that have not begun: ")  # nobody but the server knows of those
        assert hall.overview(file_path).operations[-1].state is OperationState.CANCELLED
        assert hall.record(run).state is RunState.CANCELLED
    finally:
        hall.start_server()
    wait_for(lambda: not running(process))
    wait_for(lambda: hall.state(run) not in {"RUNNING", "PENDING"})
    assert "copied" not in hall.effects(file_path)


def test_a_dispatcher_fails_when_a_branch_does(hall: Hall) -> None:
    run = hall.start(DISPATCHER, file_path="/global/raw/hall/never_taken.h5")
    wait_for(lambda: hall.state(run) not in {"SCHEDULED", "PENDING", "RUNNING"})
    assert hall.state(run) == "FAILED"
    assert "never_taken.h5" in hall.message(run)
    assert "Next: " in hall.message(run)


def test_a_dispatcher_lets_nothing_of_a_controlled_scan_out(hall: Hall) -> None:
    file_path = hall.scan("controlled.h5")
    run = hall.start(DISPATCHER, file_path=file_path, is_export_control=True)
    wait_for(lambda: hall.state(run) not in {"SCHEDULED", "PENDING", "RUNNING"})
    assert hall.state(run) == "COMPLETED"
    assert hall.record_of("local_recon_flow", file_path).state is RunState.COMPLETED
    assert hall.effects(file_path) == []  # not even its name has reached Globus: the disks are mounted here
    assert list((hall.supervisor.layout.endpoints / "data832").rglob("controlled.h5"))
    assert list((hall.supervisor.layout.endpoints / "nersc832").rglob("*controlled*")) == []


def test_a_scan_that_is_dispatched_again_gets_back_what_it_has_lost(hall: Hall) -> None:
    file_path = hall.scan("dispatched_again.h5")
    first = hall.start(DISPATCHER, file_path=file_path)
    wait_for(lambda: hall.state(first) == "COMPLETED", seconds=120.0)
    settings, _ = config.inspect(hall.supervisor.layout.config_file)
    assert settings is not None
    lost = settings.endpoint("data832").local_path(RelativePath(file_path.removeprefix("/global/")))
    content = lost.read_bytes()
    lost.unlink()
    second = hall.start(DISPATCHER, file_path=file_path)
    wait_for(lambda: hall.state(second) == "COMPLETED", seconds=120.0)
    assert lost.read_bytes() == content
