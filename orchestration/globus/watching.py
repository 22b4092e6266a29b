"""How a task stands, and when to give it up: Globus retries almost every trouble for days."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestration.config import TransferPolicy
from orchestration.errors import OperationFailed
from orchestration.globus import errors
from orchestration.globus.auth import TransferClients
from orchestration.globus.errors import Patience
from orchestration.globus.tasks import GlobusTasks, Task, where
from orchestration.ledger.service import CancelAnswer, Document, Failed, Running, Status

_CHECKSUM_ATTEMPTS = 3


@dataclass
class _Standstill:
    """Since when (by the monotonic clock) a task has reported trouble without getting anywhere."""

    moved: tuple[int, int]
    since: float


@dataclass(frozen=True)
class TaskWatch:
    """Reads tasks, and cancels those that will not get better by themselves.

    What it remembers between two looks is lost with the process; a task's patience then begins anew.
    """

    clients: TransferClients
    policy: TransferPolicy
    clock: Callable[[], float] = time.monotonic
    _standstills: dict[str, _Standstill] = field(default_factory=dict, init=False, repr=False, compare=False)
    _given_up: dict[str, OperationFailed] = field(default_factory=dict, init=False, repr=False, compare=False)

    def look(self, task_id: str, *, subject: str, proof: Callable[[Task], Status]) -> Status:
        """How the task stands; `proof` says what a success is worth, `subject` names it in errors."""
        task = self._tasks.get(task_id)
        match task.status:
            case "SUCCEEDED":
                return proof(task)
            case "FAILED":
                return self._failed(task, subject)
            case "INACTIVE":  # credentials have expired at an endpoint; only a person can renew them
                return self._give_up(task, "AUTH", subject, proof)
            case _:
                return self._active(task, subject, proof)

    def glance(self, task: Task) -> Running:
        """How a task stands by what the list of active tasks says of it."""
        calm = errors.meaning(task.code).patience in {Patience.FINE, Patience.DEADLINE} or (task.ok and not task.paused)
        return Running(progress=task.progress(""), needs_care=task.status != "ACTIVE" or not calm)

    @property
    def _tasks(self) -> GlobusTasks:
        return GlobusTasks(self.clients)

    def _active(self, task: Task, subject: str, proof: Callable[[Task], Status]) -> Status:
        meaning = errors.meaning(task.code)
        if meaning.patience is Patience.FINE or (task.ok and not task.paused):
            self._standstills.pop(task.id, None)
            return Running(progress=task.progress("paused by an administrator" if task.paused else ""))
        if meaning.patience is Patience.NONE or self._exhausted(task, meaning.patience):
            return self._give_up(task, task.code, subject, proof)
        note = f"Globus tries again: {meaning.what}"
        return Running(progress=task.progress(note), needs_care=meaning.patience is not Patience.DEADLINE)

    def _exhausted(self, task: Task, patience: Patience) -> bool:
        if patience is Patience.REPEATS:
            codes = [event.code for event in self._tasks.errors(task.id)]
            return codes.count(task.code) >= _CHECKSUM_ATTEMPTS
        if patience is not Patience.SOME:
            return False
        still = self._standstills.setdefault(task.id, _Standstill(task.moved, self.clock()))
        if still.moved != task.moved:
            still.moved, still.since = task.moved, self.clock()
        return self.clock() - still.since > self.policy.fault_patience_seconds

    def _give_up(self, task: Task, code: str, subject: str, proof: Callable[[Task], Status]) -> Status:
        """Cancel it, remember why, and report the end that Globus confirms; until then it is still running."""
        error = errors.fault(code, details=task.details, where=where(task.id), subject=subject)
        self._given_up[task.id] = error
        if self._tasks.cancel(task.id) is CancelAnswer.UNKNOWN:
            return Running(progress=task.progress(f"being cancelled: {error.what}"), needs_care=True)
        ended = self._tasks.get(task.id)
        return proof(ended) if ended.status == "SUCCEEDED" else self._failed(ended, subject)

    def _failed(self, task: Task, subject: str) -> Failed:
        evidence: Document = {"task_id": task.id, "faults": task.faults}
        ours = self._given_up.get(task.id)
        if task.code == "CANCELED" and ours is not None:
            return Failed(error=ours, evidence=evidence)
        events = self._tasks.errors(task.id)
        details = next((event.details for event in events if event.code == task.code), task.details)
        error = errors.fault(task.code, details=details, where=where(task.id), subject=subject)
        return Failed(error=error, evidence=evidence)
