"""An endpoint program as the broker sees it: it registers over HTTP, and speaks AMQP with pika as the real one does."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika  # type: ignore[import-untyped]
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, ResultErrorDetails, Task
from globus_compute_sdk import Client
from globus_compute_sdk.serialize import ComputeSerializer, JSONData


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A channel to the broker."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


class Daemon:
    """`queues` is the answer to its registration."""

    def __init__(self, client: Client, *, id_: str | None = None) -> None:
        self.id = id_ or str(uuid.uuid4())
        self.queues: dict[str, Any] = client.register_endpoint("daemon", self.id)
        self.url = str(self.queues["command_queue_info"]["connection_url"])

    def beat(self, endpoint: str = "", **state: Any) -> None:
        """A heartbeat of the program, or of an endpoint that it runs for a person."""
        who = endpoint or self.id
        report = EPStatusReport(
            endpoint_id=uuid.UUID(who), ep_status_report={"heartbeat_period": 30, **state}, task_statuses={}
        )
        self._publish("heartbeats", f"{who}.heartbeats", messagepack.pack(report))

    def command(self) -> dict[str, Any]:
        """The next command; it is taken off the queue."""
        found = self._taken(f"{self.id}.commands")
        kwargs: dict[str, Any] = json.loads(found)["kwargs"]
        return kwargs

    def run_one(self, endpoint: str) -> str:
        """Take a task of a person's endpoint, run it here, and publish the result; returns its id."""
        task, data = self._run(endpoint)
        body = messagepack.pack(Result(task_id=task.task_id, data=data))
        self._publish("results", f"{endpoint}.results", body)
        return str(task.task_id)

    def run_one_and_die(self, endpoint: str) -> str:
        """Acknowledge a task, run it, and never tell: as one that is killed while the runner ends its work."""
        task, _ = self._run(endpoint)
        return str(task.task_id)

    def fail_one(self, endpoint: str, error: str) -> str:
        """Take a task, and tell that it could not be run."""
        task = self._task(endpoint)
        details = ResultErrorDetails(code="RemoteExecutionError", user_message=error)
        body = messagepack.pack(Result(task_id=task.task_id, data=error, error_details=details))
        self._publish("results", f"{endpoint}.results", body)
        return str(task.task_id)

    def take_and_die(self, endpoint: str) -> str:
        """Take a task, and go without acknowledging it."""
        with connected(self.url) as channel:
            _, _, body = _got(channel, f"{endpoint}.tasks")
        task = messagepack.unpack(body)
        assert isinstance(task, Task)
        return str(task.task_id)

    def waiting(self, endpoint: str) -> int:
        """How many tasks are in the queue of a person's endpoint."""
        return self._length(f"{endpoint}.tasks")

    def commands(self) -> int:
        """How many commands are in its queue."""
        return self._length(f"{self.id}.commands")

    def _length(self, queue: str) -> int:
        with connected(self.url) as channel:
            found: int = channel.queue_declare(queue, passive=True).method.message_count
        return found

    def _task(self, endpoint: str) -> Task:
        task = messagepack.unpack(self._taken(f"{endpoint}.tasks"))
        assert isinstance(task, Task)
        return task

    def _run(self, endpoint: str) -> tuple[Task, str]:
        task = self._task(endpoint)
        serializer = ComputeSerializer(strategy_data=JSONData())  # type: ignore[no-untyped-call]
        function, arguments, keywords = serializer.unpack_and_deserialize(task.task_buffer)
        return task, serializer.serialize(function(*arguments, **keywords))

    def _taken(self, queue: str) -> bytes:
        with connected(self.url) as channel:
            method, _, body = _got(channel, queue)
            channel.basic_ack(method.delivery_tag)
        return body

    def _publish(self, exchange: str, key: str, body: bytes) -> None:
        with connected(self.url) as channel:
            channel.confirm_delivery()
            channel.basic_publish(exchange, key, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def _got(channel: Any, queue: str) -> tuple[Any, Any, bytes]:
    end = time.monotonic() + 10
    while True:
        method, properties, body = channel.basic_get(queue)
        if method is not None:
            return method, properties, body
        if time.monotonic() > end:
            raise AssertionError(f"nothing came on {queue}")
        time.sleep(0.02)
