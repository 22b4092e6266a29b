"""Runs tasks: one thread per active task, each ready to be cancelled, paused, or interrupted by a shutdown."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from orchestration.sandbox import clock
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.globus import codes
from orchestration.sandbox.globus.codes import Ended, Fault, Stopping
from orchestration.sandbox.globus.collections import Collection, Collections
from orchestration.sandbox.globus.tasks import Task, Tasks, TaskStatus

T = TypeVar("T")
_log = logging.getLogger(__name__)
_LONGEST_BACKOFF = 10.0
_ENDINGS = {"CANCELED": "Canceled by the task owner", "EXPIRED": "The deadline of the task has passed"}


class Job:
    """A task while it runs: its collections, and how it waits and tries again."""

    def __init__(self, engine: Engine, task: Task) -> None:
        self.engine = engine
        self.task = task
        self.source = engine.collections.get(task.source)
        self.destination = engine.collections.get(task.destination) if task.destination else self.source

    @property
    def ends(self) -> tuple[Collection, ...]:
        return (self.source,) if self.source is self.destination else (self.source, self.destination)

    def checkpoint(self) -> None:
        """Stop here if the task must not go on; wait here while an administrator has paused it.

        Raises:
            Ended: if it was cancelled or its deadline has passed.
            Stopping: if the facility shuts down.
        """
        while True:
            if self.engine.stopping:
                raise Stopping
            if self.task.cancelled:
                raise Ended("CANCELED")
            if clock.now() >= self.task.deadline:
                raise Ended("EXPIRED")
            if not self._held():
                return
            self._pause(self.engine.retry)

    def wait(self, seconds: float) -> None:
        """Wait, but no longer than until the deadline or until something happens to the task."""
        self._pause(seconds)
        self.checkpoint()

    def _pause(self, seconds: float) -> None:
        left = (self.task.deadline - clock.now()).total_seconds()
        self.task.wake.wait(max(0.0, min(seconds, left)))
        self.task.wake.clear()

    def _held(self) -> bool:
        """Whether the task may not go on now; says so in its state."""
        paused = next((one.switches.paused for one in self.ends if one.switches.paused), "")
        expired = any(one.switches.expired for one in self.ends)
        with self.task.lock:
            self.task.status = TaskStatus.INACTIVE if expired else TaskStatus.ACTIVE
            if paused and self.task.nice != "PAUSED_BY_ADMIN":
                self.task.nice, self.task.nice_details = "PAUSED_BY_ADMIN", paused
                self.task.event("PAUSED", paused)
            if not paused and self.task.nice == "PAUSED_BY_ADMIN":
                self.task.well()
                self.task.event("UNPAUSED")
        return bool(paused) or expired

    def until_done(self, act: Callable[[], T], *, forgive: bool = True) -> T:
        """Do it until it works.

        Raises:
            Fault: if it is fatal, or the task skips source errors and `forgive` allows it here.
            Ended: if the task was cancelled or its deadline came first.
        """
        tries = 0
        while True:
            self.checkpoint()
            try:
                result = act()
            except Fault as fault:
                if fault.code in codes.FATAL or (forgive and self._skips(fault)):
                    self._retrying(tries, ends=True)
                    raise
                self.task.fault(fault)
                self.engine.tasks.save(self.task)
                if fault.code == "QUOTA_EXCEEDED" and self.task.option("fail_on_quota_errors"):
                    raise
                self._retrying(tries, ends=False)
                tries += 1
                self.wait(min(_LONGEST_BACKOFF, self.engine.retry * 1.5 ** (tries - 1)))
            else:
                self._retrying(tries, ends=True)
                return result

    def _skips(self, fault: Fault) -> bool:
        return fault.code in codes.SKIPPABLE and self.task.option("skip_source_errors")

    def _retrying(self, tries: int, *, ends: bool) -> None:
        """Move one subtask between pending and retrying when its retries begin or end."""
        change = 1 if tries == 0 and not ends else -1 if tries > 0 and ends else 0
        with self.task.lock:
            self.task.numbers.retrying += change
            self.task.numbers.pending -= change
            if change < 0:
                self.task.well()

    def subtasks(self, *, pending: int = 0, succeeded: int = 0, skipped: int = 0) -> None:
        with self.task.lock:
            self.task.numbers.pending += pending
            self.task.numbers.succeeded += succeeded
            self.task.numbers.skipped_errors += skipped


class Engine:
    """Takes tasks and carries them out."""

    def __init__(
        self,
        tasks: Tasks,
        collections: Collections,
        effects: Effects,
        *,
        retry: float,
        work: Callable[[Job], None],
    ) -> None:
        self.tasks = tasks
        self.collections = collections
        self.effects = effects
        self.retry = retry
        self._work = work
        self._threads: dict[str, threading.Thread] = {}
        self.stopping = False

    def resume(self) -> None:
        """Go on with the tasks that were active when the facility stopped."""
        self.stopping = False
        for task in self.tasks:
            if not task.status.ended:
                self.start(task)

    def start(self, task: Task) -> None:
        thread = threading.Thread(target=self._run, args=(task,), name=f"globus-task-{task.id[:8]}", daemon=True)
        self._threads[task.id] = thread
        thread.start()

    def stop(self) -> None:
        """Interrupt all tasks, leaving them active, and wait until their threads are gone."""
        self.stopping = True
        self.wake()
        for thread in list(self._threads.values()):
            thread.join()

    def wake(self) -> None:
        """Let waiting tasks look again: a collection or the facility has changed."""
        for task in self.tasks:
            task.wake.set()

    def _run(self, task: Task) -> None:
        try:
            self._carry_out(task)
        except Stopping:
            self.tasks.save(task)
        except Exception:
            _log.exception("task %s met an error of the sandbox itself", task.id)
            self._finish(task, TaskStatus.FAILED, "INTERNAL_ERROR")
        finally:
            self._threads.pop(task.id, None)

    def _carry_out(self, task: Task) -> None:
        if not any(event.code == "STARTED" for event in task.events):
            task.event("STARTED", json.dumps({"type": f"GridFTP {task.kind.title()}", "concurrency": 2}))
        task.well()
        try:
            self._work(Job(self, task))
        except Ended as ended:
            details = (
                "Canceled by the task owner" if ended.code == "CANCELED" else "The deadline of the task has passed"
            )
            task.event(ended.code, details, is_error=True)
            self._finish(task, TaskStatus.FAILED, ended.code)
        except Fault as fault:
            if not task.events or task.events[-1].code != fault.code:
                task.fault(fault)
            self._finish(task, TaskStatus.FAILED, fault.code)
        else:
            task.event("SUCCEEDED", json.dumps({"files_succeeded": task.numbers.files_transferred}))
            self._finish(task, TaskStatus.SUCCEEDED)

    def _finish(self, task: Task, status: TaskStatus, fatal: str = "") -> None:
        task.end(status, fatal)
        self.tasks.save(task)
