"""Endpoints without an endpoint program: their tasks run in processes of this machine, started when there is work."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.compute.messages import Result
from orchestration.sandbox.compute.processes import Worker, gone, kill, reap
from orchestration.sandbox.compute.worker import RESULT_SUFFIX
from orchestration.sandbox.processes import Process

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 60.0
"""A process without work ends after this time."""

_WATCH_SECONDS = 0.1
"""How often a process that an earlier facility started is looked after."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A task to run: `buffer` is function, arguments and keywords, serialized."""

    task: str
    endpoint: str
    buffer: str
    serializers: list[str]


class Ending(Protocol):
    """Takes results, and hears when there is room again."""

    def ended(self, result: Result) -> None: ...

    def room(self, endpoint: str) -> None: ...


class Pool:
    """At most `size` tasks of one endpoint at a time; one that kills its process is lost, and no other with it."""

    def __init__(self, endpoint: str, *, size: int, folder: Path, listener: Ending) -> None:
        self._endpoint = endpoint
        self._size = size
        self._folder = folder
        self._listener = listener
        self._workers: list[Worker] = []
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._adopted: dict[str, tuple[Process, asyncio.Task[None]]] = {}
        self._retirement: asyncio.TimerHandle | None = None

    @property
    def free(self) -> int:
        busy = sum(1 for worker in self._workers if worker.task)
        return self._size - busy - len(self._adopted)

    def run(self, order: Order) -> Process:
        """Give it to a process; returns which. Call only while `free` is positive."""
        worker = next((one for one in self._workers if not one.task), None) or self._start()
        path = self._path(order.task)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "task": order.task,
            "endpoint": order.endpoint,
            "buffer": order.buffer,
            "serializers": order.serializers,
            "directory": str(self._folder / "tasks_working_dir"),
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        worker.order(order.task, path)
        return worker.process

    def adopt(self, task: str, process: Process) -> None:
        """Wait for a task that was given to a process before the facility was restarted."""
        self._adopted[task] = (process, asyncio.create_task(self._watch(task, process)))

    def kill(self, task: str) -> bool:
        """End the process that runs a task; returns whether there is one."""
        for worker in self._workers:
            if worker.task == task:
                worker.kill()
                return True
        if task in self._adopted:
            kill(self._adopted[task][0])
            return True
        return False

    async def stop(self, *, now: bool = False) -> None:
        """Leave the processes alone: each ends when it has done its task. With `now`, kill them."""
        if self._retirement is not None:
            self._retirement.cancel()
        for _, watching in self._adopted.values():
            watching.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        workers, self._workers = self._workers, []
        adopted, self._adopted = self._adopted, {}
        for worker in workers:
            if now:
                worker.kill()
            worker.abandon()
        if now:
            for process, _ in adopted.values():
                kill(process)
            await gone([worker.pid for worker in workers])
        await asyncio.sleep(0)  # the pipes are closed in the loop's next round

    def _start(self) -> Worker:
        self._folder.mkdir(parents=True, exist_ok=True)
        worker = Worker(log=self._folder / "workers.log", on_done=self._done, on_lost=self._lost)
        self._workers.append(worker)
        name = str(worker.pid)
        self._starting[name] = asyncio.create_task(worker.connect())
        self._starting[name].add_done_callback(lambda _: self._starting.pop(name, None))
        return worker

    def _done(self, worker: Worker, task: str) -> None:
        self._settle(task)
        self._retire_later()

    def _lost(self, worker: Worker) -> None:
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        if worker.task:
            self._settle(worker.task)

    def _settle(self, task: str) -> None:
        """The result that its process left; if it left none, it was lost with it."""
        path = self._path(task).with_suffix(RESULT_SUFFIX)
        try:
            found = documents.decode(path.read_bytes())
        except FileNotFoundError:
            self._path(task).unlink(missing_ok=True)
            result = _lost(task)
        else:
            path.unlink()
            result = _result(task, found)
        self._listener.ended(result)
        self._listener.room(self._endpoint)

    async def _watch(self, task: str, process: Process) -> None:
        path = self._path(task).with_suffix(RESULT_SUFFIX)
        while process.alive and not path.exists():
            await asyncio.sleep(_WATCH_SECONDS)
            reap()
        del self._adopted[task]
        self._settle(task)

    def _retire_later(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
        self._retirement = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._retire)

    def _retire(self) -> None:
        for worker in [one for one in self._workers if not one.task]:
            self._workers.remove(worker)
            worker.abandon()

    def _path(self, task: str) -> Path:
        return self._folder / "orders" / f"{task}.json"


def _result(task: str, found: Document) -> Result:
    return Result(
        task=task,
        data=documents.text(found, "data"),
        error_code=documents.text(found, "error_code"),
        message=documents.text(found, "message"),
        details=documents.object_at(found, "details"),
        transitions=tuple(documents.objects(found, "transitions")),
    )


def _lost(task: str) -> Result:
    return Result(
        task=task,
        data="WorkerLost: Task failure due to loss of worker: its process ended while it ran the task",
        error_code="WorkerLost",
        message="The worker was lost while it ran this task",
    )
