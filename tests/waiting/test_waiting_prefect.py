"""Runs that wait without a process, with Prefect's real server, a real worker and a real watcher."""

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
import yaml
from sandbox_hall import Hall, running, wait_for

from orchestration.flows.standing import BEGINNING
from orchestration.flows.watching import FREE_SECONDS
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationState
from orchestration.ledger.runs import RunState
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.testing_supervisor import running_sandbox
from orchestration.sandbox.trials.world import write_project

pytestmark = pytest.mark.slow

NEW_FILE = "new_832_file_flow/new_file_832"
DISPATCHER = "dispatcher/run_832_dispatcher"
RECONCILE = "reconcile/reconcile"
MOVE = "new_832_file_flow"

CRAWL = 10.0
"""Bytes per second."""


@pytest.fixture(scope="module")
def one_waiting_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    folder = Path(tmp_path_factory.mktemp("waiting"))
    project = write_project(folder / "site")
    settings = yaml.safe_load(project.read_text())
    settings["waiting"] = {"inline_seconds": 1}
    settings["ledger"]["lease_seconds"] = 10
    project.write_text(yaml.safe_dump(settings))
    with running_sandbox(folder / "sandbox", project_file=project) as supervisor:
        variables = supervisor.environment
        with (
            SandboxClient(variables["BEAMLINE_SANDBOX_URL"]) as facility,
            httpx.Client(base_url=variables["PREFECT_API_URL"], timeout=30.0, trust_env=False) as prefect,
        ):
            yield Hall(supervisor, facility, prefect)


@pytest.fixture
def hall(one_waiting_room: Hall) -> Iterator[Hall]:
    one_waiting_room.supervisor.up()
    one_waiting_room.bandwidth(0.0)
    yield one_waiting_room
    one_waiting_room.bandwidth(0.0)


def suspended(hall: Hall, run: str) -> None:
    """The run waits, and no process stands behind it."""
    wait_for(lambda: hall.state(run) == "PAUSED", seconds=90.0)
    wait_for(lambda: hall.record(run).state is RunState.WAITING, seconds=60.0)
    wait_for(lambda: not running(hall.process_of(run)), seconds=60.0)


def begun(hall: Hall, deployment: str, file_path: str) -> str:
    """A run whose first transfer goes on until somebody lets it be quick."""
    hall.bandwidth(CRAWL)
    run = hall.start(deployment, file_path=file_path)
    wait_for(lambda: hall.transfers(file_path) > 0, seconds=60.0)
    return run


def suspended_move(hall: Hall, name: str) -> tuple[str, str]:
    """A scan on its slow way to data832, and the run that waits for that."""
    file_path = hall.scan(name)
    run = begun(hall, NEW_FILE, file_path)
    suspended(hall, run)
    return file_path, run


def suspended_dispatcher(hall: Hall, name: str) -> tuple[str, str, str]:
    """The same, with a dispatcher that waits for that run."""
    file_path = hall.scan(name)
    parent = begun(hall, DISPATCHER, file_path)
    child = hall.record_of(MOVE, file_path).id
    suspended(hall, parent)
    suspended(hall, child)
    return file_path, parent, child


def carried_once(hall: Hall, file_path: str) -> None:
    assert hall.effects(file_path).count("transfer") == 2
    assert all(one.state is OperationState.SUCCEEDED for one in hall.overview(file_path).operations)


def stopped_at_the_facility(hall: Hall, file_path: str) -> None:
    """The transfer was cancelled there, and the ledger says so; nothing arrives any more."""
    wait_for(lambda: not any(one.state.open for one in hall.overview(file_path).operations), seconds=60.0)
    assert {one.state for one in hall.overview(file_path).operations} == {OperationState.CANCELLED}
    hall.bandwidth(0.0)
    assert "copied" not in hall.effects(file_path)


def kill(hall: Hall, name: str) -> None:
    pid = hall._pid(name)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not running(pid), seconds=60.0)


def test_parent_and_child_wait_without_a_process_and_go_on(hall: Hall) -> None:
    file_path, parent, child = suspended_dispatcher(hall, "parent_and_child.h5")
    hall.bandwidth(0.0)
    hall.reaches(child, "COMPLETED", seconds=120.0)
    hall.reaches(parent, "COMPLETED", seconds=150.0)
    assert hall.record(parent).state is RunState.COMPLETED
    carried_once(hall, file_path)


def test_cancelling_a_suspended_run_cancels_its_transfer(hall: Hall) -> None:
    file_path, run = suspended_move(hall, "cancelled_meanwhile.h5")
    hall.cancel(run)
    assert hall.state(run) == "CANCELLED"
    wait_for(lambda: hall.record(run).state is RunState.CANCELLED, seconds=60.0)
    stopped_at_the_facility(hall, file_path)


def test_cancelling_a_suspended_parent_takes_all_with_it(hall: Hall) -> None:
    file_path, parent, child = suspended_dispatcher(hall, "parent_cancelled.h5")
    hall.cancel(parent)
    wait_for(lambda: hall.state(child) == "CANCELLED", seconds=60.0)
    for run in (parent, child):
        wait_for(lambda run=run: hall.record(run).state is RunState.CANCELLED, seconds=60.0)  # type: ignore[misc]
    stopped_at_the_facility(hall, file_path)


def test_a_suspended_run_is_cancelled_although_no_worker_lives(hall: Hall) -> None:
    file_path, run = suspended_move(hall, "worker_dead.h5")
    kill(hall, "worker")
    hall.cancel(run)
    wait_for(lambda: hall.record(run).state is RunState.CANCELLED, seconds=60.0)
    stopped_at_the_facility(hall, file_path)


def test_a_run_without_a_worker_hears_of_its_cancellation(hall: Hall) -> None:
    """It was started by hand: its process is alive, and nobody is there to send it a signal."""
    file_path = hall.scan("by_hand.h5")
    hall.bandwidth(CRAWL)
    command = [sys.executable, "-m", "orchestration.flows.bl832.move", file_path]
    with subprocess.Popen(command, env={**os.environ, **hall.supervisor.environment}) as process:
        wait_for(lambda: hall.transfers(file_path) > 0, seconds=120.0)
        run = hall.record_of(MOVE, file_path).id
        hall.cancel(run)
        assert process.wait(120.0) != 0
    wait_for(lambda: hall.record(run).state is RunState.CANCELLED, seconds=60.0)
    wait_for(lambda: hall.state(run) == "CANCELLED", seconds=60.0)
    stopped_at_the_facility(hall, file_path)


def test_a_run_that_nobody_has_begun_is_cancelled_before_it_does_anything(hall: Hall) -> None:
    kill(hall, "worker")
    file_path = hall.scan("pending.h5")
    run = hall.start(NEW_FILE, file_path=file_path)
    hall.cancel(run)
    assert hall.state(run) == "CANCELLED"
    hall.supervisor.up()
    assert hall.effects(file_path) == []
    assert hall.state(run) == "CANCELLED"


def test_the_command_cancels_what_suspended_runs_wait_for(hall: Hall) -> None:
    file_path, parent, child = suspended_dispatcher(hall, "by_command.h5")
    answer = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "cancel", "by_command"],
        env={**os.environ, **hall.supervisor.environment},
        capture_output=True,
        text=True,
        timeout=90.0,
        check=False,
    )
    assert answer.returncode == 0, answer
    assert "cancelled" in answer.stdout
    stopped_at_the_facility(hall, file_path)
    for run in (parent, child):
        wait_for(lambda run=run: hall.record(run).state is RunState.CANCELLED, seconds=60.0)  # type: ignore[misc]
        wait_for(lambda run=run: hall.state(run) == "CANCELLED", seconds=60.0)  # type: ignore[misc]


def test_reconcile_looks_after_suspended_runs_while_no_watcher_lives(hall: Hall) -> None:
    file_path, run = suspended_move(hall, "watcher_dead.h5")
    kill(hall, "watcher")
    hall.bandwidth(0.0)
    threading.Event().wait(5.0)
    assert hall.state(run) == "PAUSED"
    wait_for(lambda: hall.start(RECONCILE), seconds=60.0)
    hall.reaches(run, "COMPLETED", seconds=120.0)
    carried_once(hall, file_path)


def test_a_run_of_reconcile_that_died_as_it_began_keeps_no_other_from_running(hall: Hall) -> None:
    """And no watcher lives that would notice."""
    kill(hall, "watcher")
    died = hall.start(RECONCILE)
    wait_for(lambda: hall.state(died) in {"PENDING", "RUNNING"}, seconds=60.0)
    kill(hall, "worker")
    hall.supervisor.up()
    kill(hall, "watcher")
    assert hall.state(died) in {"PENDING", "RUNNING"}
    after = hall.start(RECONCILE)
    hall.reaches(after, "COMPLETED", seconds=120.0)


def test_without_a_watcher_runs_keep_their_process(hall: Hall) -> None:
    kill(hall, "watcher")
    file_path = hall.scan("no_watcher.h5")
    run = begun(hall, NEW_FILE, file_path)
    threading.Event().wait(10.0)
    assert hall.state(run) == "RUNNING"
    assert running(hall.process_of(run))
    hall.bandwidth(0.0)
    hall.reaches(run, "COMPLETED", seconds=120.0)
    carried_once(hall, file_path)


def test_a_run_that_died_while_it_was_being_suspended_is_resumed(hall: Hall) -> None:
    """Prefect was told, the ledger was not."""
    kill(hall, "watcher")
    file_path = hall.scan("killed_between.h5")
    run = begun(hall, NEW_FILE, file_path)
    process = hall.process_of(run)
    details = {"pause_reschedule": True, "pause_key": "k"}
    state = {"type": "PAUSED", "name": "Suspended", "state_details": details}
    hall._ask("POST", f"/flow_runs/{run}/set_state", {"state": state})
    os.kill(hall.worker(), signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: not running(process), seconds=60.0)
    assert hall.state(run) == "PAUSED"
    hall.bandwidth(0.0)
    hall.supervisor.up()
    hall.start(RECONCILE)
    # A run of `reconcile` that was to begin when the worker was killed keeps the queue, until that is noticed.
    hall.reaches(run, "COMPLETED", seconds=150.0 + BEGINNING.total_seconds() + FREE_SECONDS)
    carried_once(hall, file_path)


def test_a_suspended_run_goes_on_after_the_servers_death(hall: Hall) -> None:
    file_path, run = suspended_move(hall, "server_dead.h5")
    hall.kill_server()
    hall.bandwidth(0.0)
    threading.Event().wait(10.0)
    with Ledger(hall.supervisor.layout.ledger_url) as ledger:
        assert ledger.watchers.alive()
    hall.start_server()
    hall.reaches(run, "COMPLETED", seconds=120.0)
    carried_once(hall, file_path)
