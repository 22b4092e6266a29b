"""Endpoint programs at the stand-in for Globus Compute: what it tells them, and what becomes of what they say."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import globus_sdk
import pika  # type: ignore[import-untyped]
import pytest
from compute_daemon import Daemon, connected
from compute_ground import Ground, compute_client, eventually
from globus_compute_sdk import Client
from globus_compute_sdk.errors import TaskExecutionFailed

from orchestration.sandbox.settings import Settings
from orchestration.sandbox.testing import endpoint_environment, running_facility

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Environment differences detected")


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture
def client(ground: Ground) -> Client:
    return compute_client(ground.url)


@pytest.fixture
def daemon(client: Client) -> Daemon:
    made = Daemon(client)
    made.beat()
    return made


def submitted(client: Client, daemon: Daemon) -> tuple[str, str]:
    """A task, and the endpoint that the program is told to run it with."""
    task = client.run(1, 2, endpoint_id=daemon.id, function_id=client.register_function(add))
    return task, str(daemon.command()["amqp_creds"]["endpoint_id"])


def ended(client: Client, task: str) -> Any:
    return eventually(lambda: not client.get_task(task)["pending"] and client.get_task(task))


def test_a_task_goes_by_the_queues_to_the_program_and_back(client: Client, daemon: Daemon) -> None:
    assert eventually(lambda: client.get_endpoint_status(daemon.id)["status"] == "online")
    task, user = submitted(client, daemon)
    assert user != daemon.id
    assert daemon.run_one(user) == task
    assert ended(client, task)["result"] == 3


def test_the_same_options_of_the_same_person_are_one_endpoint(client: Client, daemon: Daemon) -> None:
    function = client.register_function(add)
    for options in ({"queue": "debug"}, {"queue": "prod"}, {"queue": "debug"}):
        batch = client.create_batch(user_endpoint_config=options)
        batch.add(function, (1, 2))
        client.batch_run(daemon.id, batch)
    commands = [daemon.command(), daemon.command()]
    assert [one["user_opts"] for one in commands] == [{"queue": "debug"}, {"queue": "prod"}]
    assert daemon.waiting(commands[0]["amqp_creds"]["endpoint_id"]) == 2
    assert daemon.waiting(commands[1]["amqp_creds"]["endpoint_id"]) == 1


def test_a_task_that_kills_whoever_takes_it_is_given_up(client: Client, daemon: Daemon) -> None:
    task, user = submitted(client, daemon)
    for _ in range(3):
        assert daemon.take_and_die(user) == task
    with pytest.raises(TaskExecutionFailed, match="delivered 3 times"):
        ended(client, task)


def test_tasks_of_an_endpoint_that_cannot_be_started_fail_with_its_reason(client: Client, daemon: Daemon) -> None:
    task, user = submitted(client, daemon)
    daemon.beat(user, error="the template has no `engine`")
    with pytest.raises(TaskExecutionFailed, match="the template has no `engine`"):
        ended(client, task)
    assert daemon.waiting(user) == 0


def test_a_program_that_comes_back_is_told_once_what_it_missed(client: Client, daemon: Daemon) -> None:
    assert eventually(lambda: client.get_endpoint_status(daemon.id)["status"] == "online")
    daemon.beat(active=False)
    assert eventually(lambda: client.get_endpoint_status(daemon.id)["status"] == "offline")
    function = client.register_function(add)
    tasks = [client.run(1, number, endpoint_id=daemon.id, function_id=function) for number in range(2)]
    assert daemon.commands() == 0
    daemon.beat()
    user = str(daemon.command()["amqp_creds"]["endpoint_id"])
    assert {daemon.run_one(user), daemon.run_one(user)} == set(tasks)
    assert [ended(client, task)["result"] for task in tasks] == [1, 2]
    assert daemon.commands() == 0


def test_a_queue_that_is_not_there_closes_the_channel_and_not_the_connection(daemon: Daemon) -> None:
    with connected(daemon.url) as channel:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
            channel.queue_declare("nobody.tasks", passive=True)
        assert caught.value.reply_code == 404
        assert channel.connection.channel().queue_declare(f"{daemon.id}.commands", passive=True)


def test_the_broker_lets_nobody_in_who_does_not_know_the_password(daemon: Daemon) -> None:
    with pytest.raises(pika.exceptions.AMQPConnectionError), connected(daemon.url.replace(":sandbox@", ":wrong@")):
        pass


def test_messages_of_many_frames_arrive_whole(client: Client, daemon: Daemon) -> None:
    function = client.register_source_code("def size(text):\n    return len(text)\n", "size")
    task = client.run("x" * 3_000_000, endpoint_id=daemon.id, function_id=function)
    user = str(daemon.command()["amqp_creds"]["endpoint_id"])
    daemon.run_one(user)
    assert ended(client, task)["result"] == 3_000_000


def test_nobody_elses_endpoint_can_be_registered(ground: Ground, client: Client) -> None:
    with pytest.raises(globus_sdk.GlobusAPIError) as caught:
        client.register_endpoint("mine now", ground.compute)
    assert caught.value.http_status == 403


def test_a_locked_endpoint_cannot_be_registered_for_a_moment(client: Client, daemon: Daemon) -> None:
    def refused() -> bool:
        client._compute_web_client.v3.lock_endpoint(daemon.id)
        try:
            client.register_endpoint("daemon", daemon.id)
        except globus_sdk.GlobusAPIError as error:
            return error.http_status == 423
        return False  # the moment had passed before this was asked

    assert eventually(refused)


def test_what_nobody_acknowledged_is_there_again_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state=tmp_path / "state")
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "sdk"))
    with running_facility(settings.state, [], settings=settings) as facility:
        for name, value in facility.environment().items():
            monkeypatch.setenv(name, value)
        client = compute_client(f"{facility.url}/compute")
        daemon = Daemon(client, id_=str(uuid.uuid4()))
        daemon.beat()
        taken, user = submitted(client, daemon)
        assert daemon.take_and_die(user) == taken
        accepted = client.run(3, 4, endpoint_id=daemon.id, function_id=client.register_function(add))
        assert daemon.run_one(user) == taken
    with running_facility(settings.state, [], settings=settings) as facility:
        for name, value in facility.environment().items():
            monkeypatch.setenv(name, value)
        client = compute_client(f"{facility.url}/compute")
        assert ended(client, taken)["result"] == 3
        daemon = Daemon(client, id_=daemon.id)  # where the broker is now: its port may have been taken meanwhile
        assert daemon.waiting(user) == 1
        assert daemon.run_one(user) == accepted
        assert ended(client, accepted)["result"] == 7


def test_an_unmodified_client_finds_it_through_a_proxy_as_the_endpoint_program_does(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in endpoint_environment(ground.facility.url).items():
        monkeypatch.setenv(name, value)
    app = globus_sdk.ClientApp(
        "tests",
        client_id=endpoint_environment("")["GLOBUS_COMPUTE_CLIENT_ID"],
        client_secret=endpoint_environment("")["GLOBUS_COMPUTE_CLIENT_SECRET"],
        config=globus_sdk.GlobusAppConfig(token_storage="memory", environment="local"),
    )
    client = Client(app=app, environment="local")
    assert client.web_service_address == "http://localhost:5000"
    assert client.get_endpoint_status(ground.compute)["status"] == "online"
