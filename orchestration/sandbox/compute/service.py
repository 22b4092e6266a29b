"""The heart of the stand-in for Globus Compute: tasks from their submission to their result."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import defaultdict, deque
from datetime import UTC, datetime
from pathlib import Path

from pamqp.commands import Basic

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.compute import messages
from orchestration.sandbox.compute.book import Book
from orchestration.sandbox.compute.broker import Broker
from orchestration.sandbox.compute.daemons import HEARTBEATS, RESULTS, TASKS, Daemons, task_queue
from orchestration.sandbox.compute.messages import Heartbeat, Result
from orchestration.sandbox.compute.pool import Order, Pool
from orchestration.sandbox.compute.queues import Message, Queues
from orchestration.sandbox.compute.records import Endpoint, EndpointKind, Group, Stage, Task
from orchestration.sandbox.compute.settings import ComputeSettings
from orchestration.sandbox.compute.submission import Submission
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.processes import Process
from orchestration.sandbox.store import Store

logger = logging.getLogger(__name__)

QUEUE_PREFIX = "task_group_results."

_SETTLING_SECONDS = 0.5
"""How long an endpoint program that comes online is left alone, as by a service that is far away. It forks when it is
told to start something: while its other threads still connect, the child may wait for ever for a lock of theirs."""


class ComputeService:
    """All calls come from the event loop in which it was started."""

    def __init__(self, settings: ComputeSettings, store: Store, effects: Effects, *, folder: Path) -> None:
        self.book = Book(store)
        self._settings = settings
        self._effects = effects
        self._folder = folder
        self._queues = Queues(watcher=self, delivery_limit=settings.delivery_limit)
        self.daemons = Daemons(self.book, self._queues)
        self._broker = Broker(self._queues)
        self._pools: dict[str, Pool] = {}
        self._waiting: defaultdict[str, deque[Task]] = defaultdict(deque)
        self._settling: dict[str, asyncio.TimerHandle] = {}
        """When endpoint programs that came online are told what they missed."""
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def broker_url(self) -> str:
        return self._broker.url

    async def start(self) -> None:
        """Go on where an earlier facility stopped: queues first, then listen, then hand out what waits."""
        self._loop = asyncio.get_running_loop()
        self._set_up()
        await self._broker.start(self.book.broker_port)
        self.book.broker_port = self._broker.port
        self.daemons.url = self._broker.url
        self._resume()

    async def stop(self) -> None:
        await self._broker.stop()
        for pool in self._pools.values():
            await pool.stop()

    def reset(self) -> None:
        """Forget everything, after the store was cleared. From any other thread than the loop's."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._begin_anew(), self._loop).result()

    async def _begin_anew(self) -> None:
        for pool in self._pools.values():
            await pool.stop(now=True)
        for name in [f"{QUEUE_PREFIX}{group}" for group in self.book.groups]:
            self._queues.delete(name)
        for user in [*self.book.user_endpoints, *self.book.endpoints]:
            self._queues.purge(task_queue(user))
        self.book.forget_all()
        self._waiting.clear()
        self._set_up()
        self.book.broker_port = self._broker.port

    def submit(self, submission: Submission) -> Document:
        """Accept the tasks; returns the answer of the service."""
        group = self.book.groups.get(submission.group) or Group(id=submission.group, owner=submission.owner)
        if submission.queue and not group.queue:
            group.queue = True
            self._queues.declare(f"{QUEUE_PREFIX}{group.id}")
        self.book.keep_group(group)
        endpoint = submission.endpoint
        user = ""
        if endpoint.kind is EndpointKind.DAEMON:
            found = self.daemons.user_endpoint(endpoint, submission.owner, submission.options, submission.runtime)
            user = found.id
        accepted = {
            function: [self._accept(submission, function, payload, user) for payload in payloads]
            for function, payloads in submission.payloads.items()
        }
        self.hand_out(endpoint)
        tasks: Document = {function: list(ids) for function, ids in accepted.items()}
        head: Document = {"request_id": str(uuid.uuid4()), "task_group_id": group.id, "endpoint_id": endpoint.id}
        return head | {"tasks": tasks}

    def hand_out(self, endpoint: Endpoint) -> None:
        """Give what waits for an endpoint to it, as far as it takes it."""
        if not endpoint.moving:
            return
        waiting = self._waiting[endpoint.id]
        while waiting and (endpoint.kind is EndpointKind.DAEMON or self._pools[endpoint.id].free > 0):
            task = waiting.popleft()
            if task.stage.over:
                continue
            if endpoint.kind is EndpointKind.DAEMON:
                self._enqueue(task)
            else:
                self._run(task)

    def task_document(self, task: Task) -> Document:
        """The task as the web service tells it."""
        if not task.stage.over:
            return {"task_id": task.id, "status": self._pending(task)}
        told: Document = {
            "task_id": task.id,
            "status": task.stage.value,
            "completion_t": str(task.completed),
            "details": task.details,
        }
        result = self.result(task)
        if result is None:
            return told | {"reason": "the result of this task has expired"}
        return told | {"exception" if result.error_code else "result": result.data}

    def result(self, task: Task) -> Result | None:
        """None where there is none yet, or it was forgotten; it is forgotten when its time has come."""
        expired = task.stage.over and time.time() - task.completed > self._settings.result_lifetime
        if expired and not task.forgotten:
            self.book.forget_result(task)
        return self.book.result(task)

    def kill_worker(self, task: Task) -> bool:
        """End the process that runs a task of an inline endpoint; returns whether there is one."""
        pool = self._pools.get(task.endpoint)
        return pool is not None and pool.kill(task.id)

    def ended(self, result: Result) -> None:
        """A task ended; the second result of the same task is dropped."""
        task = self.book.tasks.get(result.task)
        if task is None or task.stage.over:
            return
        task.stage = Stage.FAILED if result.error_code else Stage.SUCCESS
        task.completed = time.time()
        # They come in nanoseconds and are told in seconds.
        states: Document = {
            documents.text(each, "state"): documents.number(each, "timestamp") / 1e9 for each in result.transitions
        }
        task.details = (result.details or {}) | {"task_transitions": states}
        self.book.keep_result(task, result)
        self._announce(task, result)

    def room(self, endpoint: str) -> None:
        self.hand_out(self.book.endpoints[endpoint])

    def delivered(self, message: Message, queue: str) -> None:
        task = self.book.tasks.get(message.subject)
        if task is None or task.stage.over:
            return
        task.stage = Stage.RUNNING
        self.book.keep_task(task)
        self._started(task)

    def acknowledged(self, message: Message, queue: str) -> None:
        task = self.book.tasks.get(message.subject)
        if task is None:
            return
        if queue.startswith(QUEUE_PREFIX):
            task.collected = True
        else:
            task.accepted = True
        self.book.keep_task(task)

    def abandoned(self, message: Message, queue: str) -> None:
        text = f"The task was delivered {message.deliveries} times, and its endpoint ended each time"
        self.ended(Result(task=message.subject, data=text, error_code="POISON_TASK", message=text))

    def _set_up(self) -> None:
        for one in self._settings.endpoints:
            known = self.book.endpoints.get(one.identity)
            endpoint = known or Endpoint(id=one.identity, name=one.name, kind=EndpointKind.INLINE, public=True)
            endpoint.workers = one.workers
            self.book.keep_endpoint(endpoint)
        self._pools = {
            endpoint.id: Pool(endpoint.id, size=endpoint.workers, folder=self._folder / endpoint.id, listener=self)
            for endpoint in self.book.endpoints.values()
            if endpoint.kind is EndpointKind.INLINE
        }
        self.daemons.declare()
        for name, sink in ((RESULTS, self._result_came), (HEARTBEATS, self._heartbeat_came)):
            self._queues.declare(name, sink=sink)
            self._queues.bind(name, name, f"*.{name}")
        for group in self.book.groups.values():
            if group.queue:
                self._queues.declare(f"{QUEUE_PREFIX}{group.id}")

    def _resume(self) -> None:
        for task in list(self.book.tasks.values()):
            endpoint = self.book.endpoints.get(task.endpoint)
            if task.stage.over:
                found = None if task.collected else self.result(task)
                if found is not None:
                    self._announce(task, found)
            elif task.stage is Stage.RUNNING and endpoint is not None and endpoint.kind is EndpointKind.INLINE:
                self._adopt(task)
            elif not task.accepted:
                task.stage = Stage.WAITING
                self._waiting[task.endpoint].append(task)
        for endpoint in list(self.book.endpoints.values()):
            self.hand_out(endpoint)

    def _adopt(self, task: Task) -> None:
        process = Process(pid=documents.whole(task.worker, "pid"), started=documents.text(task.worker, "started"))
        self._pools[task.endpoint].adopt(task.id, process)

    def _accept(self, submission: Submission, function: str, payload: str, user: str) -> str:
        known = self.book.functions[function]
        task = Task(
            id=str(uuid.uuid4()),
            group=submission.group,
            owner=submission.owner,
            endpoint=submission.endpoint.id,
            user_endpoint=user,
            function=function,
            label=known.name,
            created=time.time(),
            serializers=list(submission.serializers),
            resources=submission.resources,
        )
        self.book.add_task(task, known.code + payload)
        self._waiting[task.endpoint].append(task)
        self._effects.happened("task", task.id, key=task.group, label=known.name)
        return task.id

    def _run(self, task: Task) -> None:
        order = Order(
            task=task.id, endpoint=task.endpoint, buffer=self.book.payload(task), serializers=task.serializers
        )
        process = self._pools[task.endpoint].run(order)
        task.worker = {"pid": process.pid, "started": process.started}
        task.stage = Stage.RUNNING
        self.book.keep_task(task)
        self._started(task)

    def _started(self, task: Task) -> None:
        self._effects.happened("task-start", task.id, key=task.group, label=task.label)

    def _enqueue(self, task: Task) -> None:
        user = self.book.user_endpoints[task.user_endpoint]
        headers: dict[str, object] = {"function_uuid": task.function, "task_uuid": task.id}
        if task.resources:
            headers["resource_specification"] = json.dumps(task.resources)
        if task.serializers:
            headers["result_serializers"] = task.serializers
        task.stage = Stage.QUEUED
        self.book.keep_task(task)
        self.daemons.start(user)
        properties = Basic.Properties(headers=headers, delivery_mode=2)  # type: ignore[arg-type]
        body = messages.task(task.id, self.book.payload(task))
        queue = task_queue(user.id)
        self._queues.publish(Message(exchange=TASKS, key=queue, properties=properties, body=body, subject=task.id))

    def _announce(self, task: Task, result: Result) -> None:
        """On the queue of its group, for who waits there."""
        group = self.book.groups.get(task.group)
        if group is None or not group.queue:
            return
        properties = Basic.Properties(timestamp=datetime.now(UTC), delivery_mode=2)
        key = f"{QUEUE_PREFIX}{group.id}"
        self._queues.publish(Message(exchange="", key=key, properties=properties, body=result.pack(), subject=task.id))

    def _result_came(self, key: str, body: bytes) -> None:
        kind, data = self._read(body)
        if kind == "result":
            self.ended(Result.parse(data))

    def _heartbeat_came(self, key: str, body: bytes) -> None:
        kind, data = self._read(body)
        if kind != "ep_status_report":
            return
        heartbeat = Heartbeat.parse(data)
        came_back = self.daemons.heard(heartbeat)
        if came_back:
            self._settle(heartbeat.endpoint)
        if heartbeat.error:
            self._fail_queued(heartbeat.endpoint, heartbeat.error)

    def _settle(self, endpoint: str) -> None:
        # One that went and came back meanwhile is told once, not once for each time that it came.
        if earlier := self._settling.pop(endpoint, None):
            earlier.cancel()
        loop = asyncio.get_running_loop()
        self._settling[endpoint] = loop.call_later(_SETTLING_SECONDS, self._start_again, endpoint)

    def _start_again(self, endpoint: str) -> None:
        """Commands that it missed are too old for it."""
        del self._settling[endpoint]
        wanted = {task.user_endpoint for task in self.book.tasks.values() if not task.stage.over}
        for user in list(self.book.user_endpoints.values()):
            if user.parent == endpoint and user.id in wanted:
                self.daemons.start(user, anyway=True)

    def _fail_queued(self, user_endpoint: str, why: str) -> None:
        """It could not be started."""
        self._queues.purge(task_queue(user_endpoint))
        for task in list(self.book.tasks.values()):
            if task.user_endpoint == user_endpoint and not task.stage.over:
                code = "USER_ENDPOINT_START_FAILED"
                self.ended(Result(task=task.id, data=why, error_code=code, message=why))

    def _pending(self, task: Task) -> str:
        endpoint = self.book.endpoints.get(task.endpoint)
        if endpoint is None or (task.stage is not Stage.RUNNING and not endpoint.online):
            return "waiting-for-ep"
        if task.stage is Stage.RUNNING and endpoint.kind is EndpointKind.INLINE:
            return "running"
        # What an endpoint program has taken may run, or wait for a computer: it tells nobody which.
        return "waiting-for-nodes" if endpoint.held else "waiting-for-launch"

    def _read(self, body: bytes) -> tuple[str, Document]:
        try:
            return messages.unpack(body)
        except documents.NotADocument:
            logger.exception("a message that cannot be read was dropped")
            return "", {}
