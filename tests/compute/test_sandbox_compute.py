"""The stand-in for Globus Compute, by its unmodified SDK."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import globus_sdk
import pytest
from compute_ground import Ground, compute_client, eventually, executor
from globus_compute_sdk import Client
from globus_compute_sdk.errors import TaskExecutionFailed

from orchestration.errors import ConfigError
from orchestration.sandbox.compute.settings import ComputeSettings, InlineEndpoint, endpoint_id
from orchestration.sandbox.settings import Settings, load
from orchestration.sandbox.testing import RunningFacility, running_facility

NO_DETAILS = pytest.mark.filterwarnings(r"ignore:\s*Environment differences detected")
"""A worker that is lost leaves nothing about itself: so the SDK suspects it of being different."""


@pytest.fixture
def client(ground: Ground) -> Client:
    return compute_client(ground.url)


def add(a: int, b: int) -> int:
    return a + b


def double_large(megabytes: int) -> str:
    return "x" * (megabytes << 20)


def fail() -> None:
    raise ValueError("the detector is asleep")


def die() -> None:
    import os

    os._exit(3)


def note(path: str, seconds: float) -> str:
    import time

    with open(path, "a") as file:
        file.write("x")
    time.sleep(seconds)
    return "noted"


def surroundings() -> list[str]:
    import os

    return sorted(os.environ)


def result(client: Client, task: str) -> Any:
    return eventually(lambda: not client.get_task(task)["pending"] and client._task_status_table[task])["result"]


def test_a_function_runs_and_its_result_is_fetched_with_others_in_one_request(ground: Ground, client: Client) -> None:
    function = client.register_function(add)
    batch = client.create_batch()
    for number in range(5):
        batch.add(function, (number, 1))
    answer = client.batch_run(ground.compute, batch)
    tasks = answer["tasks"][function]
    eventually(lambda: not any(one["pending"] for one in client.get_batch_result(tasks).values()))
    found = client.get_batch_result(tasks)
    assert [found[task]["result"] for task in tasks] == [1, 2, 3, 4, 5]
    assert ground.starts(answer["task_group_id"]) == 5
    effects = [one for one in ground.control.effects("task") if one.key == answer["task_group_id"]]
    assert {one.id for one in effects} == set(tasks)


def test_source_code_runs_as_a_function_does(ground: Ground, client: Client) -> None:
    source = "import math\nHALF = 0.5\ndef root(x):\n    return math.pow(x, HALF)\n"
    function = client.register_source_code(source, "root")
    assert result(client, client.run(9, endpoint_id=ground.compute, function_id=function)) == 3.0


def test_tasks_see_nothing_of_the_facilitys_environment(
    ground: Ground, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCICAT_INGEST_PASSWORD", "secret")
    function = client.register_function(surroundings)
    found = result(client, client.run(endpoint_id=ground.login, function_id=function))
    assert not [name for name in found if name.startswith(("SCICAT", "GLOBUS", "BEAMLINE"))]


def test_an_executor_gets_results_and_errors_over_amqp(ground: Ground, client: Client) -> None:
    with executor(client, ground.compute) as made:
        futures = [made.submit(add, number, 1) for number in range(4)]
        lost, failed = made.submit(die), made.submit(fail)
        assert [future.result(20) for future in futures] == [1, 2, 3, 4]
        with pytest.raises(TaskExecutionFailed, match="the detector is asleep"):
            failed.result(20)
        with pytest.raises(TaskExecutionFailed, match="WorkerLost"):
            lost.result(20)
        assert made.submit(add, 3, 4).result(20) == 7
        group = made.task_group_id
    assert group is not None
    with executor(client, ground.compute, task_group_id=group) as later:
        again = later.reload_tasks()
        assert sorted(future.exception(20) is None for future in again) == [False, False, True, True, True, True, True]


def test_a_result_of_more_than_ten_megabytes_is_refused(ground: Ground, client: Client) -> None:
    function = client.register_function(double_large)
    task = client.run(11, endpoint_id=ground.compute, function_id=function)
    with pytest.raises(TaskExecutionFailed, match="MaxResultSizeExceeded"):
        eventually(lambda: not client.get_task(task)["pending"])


def test_a_request_of_more_than_ten_megabytes_is_refused(ground: Ground, client: Client) -> None:
    function = client.register_function(add)
    with pytest.raises(globus_sdk.GlobusAPIError) as caught:
        client.run("x" * (11 << 20), 1, endpoint_id=ground.compute, function_id=function)
    assert (caught.value.http_status, caught.value.code) == (413, "TASK_PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("what", ["endpoint", "function", "task", "group"])
def test_what_is_not_known_is_not_found(ground: Ground, client: Client, what: str) -> None:
    nothing = str(uuid.uuid4())
    function = client.register_function(add)
    ask: dict[str, Callable[[], Any]] = {
        "endpoint": lambda: client.run(1, 2, endpoint_id=nothing, function_id=function),
        "function": lambda: client.run(1, 2, endpoint_id=ground.compute, function_id=nothing),
        "task": lambda: client.get_task(nothing),
        "group": lambda: client._compute_web_client.v2.get_task_group(nothing),
    }
    with pytest.raises(globus_sdk.GlobusAPIError) as caught:
        ask[what]()
    assert caught.value.http_status == 404


def test_without_a_token_nothing_is_told(ground: Ground) -> None:
    web = globus_sdk.ComputeClientV2(base_url=ground.url, authorizer=globus_sdk.AccessTokenAuthorizer("made up"))
    web.retry_config.max_retries = 0
    with web, pytest.raises(globus_sdk.GlobusAPIError) as caught:
        web.get_endpoint_status(Ground.compute)
    assert caught.value.http_status == 401


def test_an_endpoint_that_is_switched_off_keeps_its_tasks_until_it_is_back(ground: Ground, client: Client) -> None:
    function = client.register_function(add)
    ground.control.compute.switch(ground.compute, online=False)
    assert client.get_endpoint_status(ground.compute)["status"] == "offline"
    task = client.run(1, 2, endpoint_id=ground.compute, function_id=function)
    assert client.get_task(task) == {"pending": True, "status": "waiting-for-ep"}
    ground.control.compute.switch(ground.compute, online=True, held=True)
    assert client.get_endpoint_status(ground.compute)["status"] == "online"
    assert client.get_task(task) == {"pending": True, "status": "waiting-for-nodes"}
    ground.control.compute.switch(ground.compute, held=False)
    assert result(client, task) == 3


@NO_DETAILS
def test_a_lost_worker_fails_its_task_and_no_other(ground: Ground, client: Client, tmp_path: Path) -> None:
    function = client.register_function(note)
    task, other = (
        client.run(str(tmp_path / name), seconds, endpoint_id=ground.compute, function_id=function)
        for name, seconds in (("lost", 60.0), ("other", 0.5))
    )
    eventually(lambda: (tmp_path / "lost").exists())
    assert ground.control.compute.kill(task)
    with pytest.raises(TaskExecutionFailed, match="WorkerLost"):
        eventually(lambda: not client.get_task(task)["pending"])
    assert result(client, other) == "noted"
    assert (tmp_path / "lost").read_text() == "x"


def test_endpoints_can_be_looked_up(ground: Ground, client: Client) -> None:
    assert {one["uuid"] for one in client.get_endpoints(role="any")} >= {ground.compute, ground.login}
    assert client.get_endpoint_metadata(ground.compute)["name"] == "alcf"
    assert client.get_allowed_functions(ground.compute)["functions"] == []


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state")


def led(facility: RunningFacility, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of a facility that this test alone uses."""
    for name, value in facility.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(facility.settings.state / "sdk"))
    return compute_client(f"{facility.url}/compute")


def test_a_task_in_flight_survives_a_restart_of_the_facility(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_facility(settings.state, [], settings=settings) as facility:
        client = led(facility, monkeypatch)
        function = client.register_function(note)
        running = client.run(str(tmp_path / "running"), 1.0, endpoint_id=Ground.compute, function_id=function)
        facility.client.compute.switch(Ground.login, held=True)
        waiting = client.run(str(tmp_path / "waiting"), 0.0, endpoint_id=Ground.login, function_id=function)
        eventually(lambda: (tmp_path / "running").exists())
    with running_facility(settings.state, [], settings=settings) as facility:
        client = led(facility, monkeypatch)
        assert result(client, running) == "noted"
        assert client.get_task(waiting)["pending"]
        facility.client.compute.switch(Ground.login, held=False)
        assert result(client, waiting) == "noted"
        starts = [one.id for one in facility.client.effects("task-start")]
    assert sorted(starts) == sorted([running, waiting])
    assert (tmp_path / "running").read_text() == "x"


@NO_DETAILS
def test_a_task_whose_process_died_while_the_facility_was_away_is_lost(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_facility(settings.state, [], settings=settings) as facility:
        client = led(facility, monkeypatch)
        function = client.register_function(note)
        task = client.run(str(tmp_path / "running"), 60.0, endpoint_id=Ground.compute, function_id=function)
        eventually(lambda: (tmp_path / "running").exists())
        (pid,) = (one["pid"] for one in facility.client.compute.tasks())
    os.kill(int(str(pid)), 9)
    with running_facility(settings.state, [], settings=settings) as facility:
        client = led(facility, monkeypatch)
        with pytest.raises(TaskExecutionFailed, match="WorkerLost"):
            eventually(lambda: not client.get_task(task)["pending"])


def test_results_are_forgotten_when_their_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = ComputeSettings(endpoints=(InlineEndpoint(name="small", workers=1),), result_lifetime=0.3)
    settings = Settings(state=tmp_path / "state", compute=compute)
    with running_facility(settings.state, [], settings=settings) as facility:
        client = led(facility, monkeypatch)
        task = client.run(1, 2, endpoint_id=endpoint_id("small"), function_id=client.register_function(add))
        eventually(lambda: facility.client.compute.tasks()[0]["stage"] == "success")
        time.sleep(0.35)
        found = client.get_task(task)
    assert (found["status"], found["reason"]) == ("success", "the result of this task has expired")


def test_a_reset_ends_what_runs_and_forgets_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_facility(settings.state, [], settings=settings) as facility:
        client = led(facility, monkeypatch)
        function = client.register_function(note)
        client.run(str(tmp_path / "running"), 60.0, endpoint_id=Ground.compute, function_id=function)
        eventually(lambda: (tmp_path / "running").exists())
        (pid,) = (int(str(one["pid"])) for one in facility.client.compute.tasks())
        facility.client.reset()
        assert facility.client.compute.tasks() == []
        assert {one["name"] for one in facility.client.compute.endpoints()} == {"alcf", "alcf-login"}
        eventually(lambda: not Path(f"/proc/{pid}").exists())
        client = led(facility, monkeypatch)
        task = client.run(1, 1, endpoint_id=Ground.compute, function_id=client.register_function(add))
        assert result(client, task) == 2


def test_its_endpoints_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "facility.yml"
    path.write_text("compute: {endpoints: [{name: polaris, workers: 3}], result_lifetime: 60}")
    compute = load(path, state=tmp_path).compute
    assert compute == ComputeSettings(endpoints=(InlineEndpoint(name="polaris", workers=3),), result_lifetime=60.0)
    path.write_text("compute: {endpoints: [{name: polaris, workers: 0}]}")
    with pytest.raises(ConfigError, match="at least one worker"):
        load(path, state=tmp_path)
