"""Transfers between Globus collections."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import globus_sdk

from orchestration.config import TransferPolicy
from orchestration.errors import (
    OperationFailed,
    SourceMissing,
    TransferConflict,
)
from orchestration.globus import errors
from orchestration.globus.auth import TransferClients
from orchestration.globus.errors import Patience
from orchestration.globus.files import Entry, GlobusFiles, TooManyFolders
from orchestration.globus.proof import Arrival
from orchestration.globus.tasks import GlobusTasks, Task, label, submit, where
from orchestration.ledger.service import CancelAnswer, Failed, Running, Status
from orchestration.paths import RelativePath
from orchestration.transfers import TransferRequest

_MOST_FOLDERS = 20
"""Folders listed before a submission only to learn how much there is to move."""

_CHECKSUM_ATTEMPTS = 3


@dataclass
class _Standstill:
    """Since when (by the monotonic clock) a task has reported trouble without getting anywhere."""

    moved: tuple[int, int]
    since: float


@dataclass(frozen=True)
class GlobusTransfer:
    """Copies verified by checksum, each exactly once.

    Globus retries almost every trouble for days; what will not get better by itself is cancelled here and told.
    """

    clients: TransferClients
    policy: TransferPolicy = field(default_factory=TransferPolicy)
    clock: Callable[[], float] = time.monotonic
    _standstills: dict[str, _Standstill] = field(default_factory=dict, init=False, repr=False, compare=False)
    _given_up: dict[str, OperationFailed] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        return "globus.transfer"

    def reserve(self, key: str) -> str:
        return self._tasks.reserve()

    def find(self, request: TransferRequest, token: str) -> str | None:
        return self._tasks.find(token)

    def submit(self, request: TransferRequest, token: str) -> str:
        found = self._files.entries(request.source, (item.source for item in request.items))
        for item in request.items:
            if item.source not in found:
                raise SourceMissing(
                    f"there is nothing at {request.source.full_path(item.source)}", where=request.source.name
                )
        try:
            return submit(self.clients, self._data(request, token, found), where=_route(request))
        except TransferConflict as refusal:
            return self._tasks.adopt(request, refusal)

    def poll(self, request: TransferRequest, handle: str) -> Status:
        task = self._tasks.get(handle)
        match task.status:
            case "SUCCEEDED":
                return Arrival(self.clients, request, task).verdict()
            case "FAILED":
                return Failed(error=self._reason(request, task), evidence={"task_id": task.id, "faults": task.faults})
            case "INACTIVE":
                return self._give_up(request, task, "AUTH", task.details)
            case _:
                return self._active(request, task)

    def cancel(self, handle: str) -> CancelAnswer:
        return self._tasks.cancel(handle)

    @property
    def _tasks(self) -> GlobusTasks:
        return GlobusTasks(self.clients)

    @property
    def _files(self) -> GlobusFiles:
        return GlobusFiles(self.clients)

    def _data(self, request: TransferRequest, token: str, found: dict[RelativePath, Entry]) -> globus_sdk.TransferData:
        title = request.label or f"{request.source.name} to {request.destination.name}"
        data = globus_sdk.TransferData(
            request.source.require_uuid(),
            request.destination.require_uuid(),
            label=label(title, request=request, token=token),
            submission_id=token,
            sync_level="checksum",
            verify_checksum=True,
            fail_on_quota_errors=True,
            skip_source_errors=False,
            notify_on_succeeded=False,
            notify_on_failed=False,
            notify_on_inactive=False,
        )
        size = self._size(request, found)
        if size is not None:
            ends = datetime.now(UTC) + timedelta(seconds=self.policy.deadline_seconds(size))
            data["deadline"] = ends.replace(microsecond=0).isoformat()
        for item in request.items:
            paths = request.source.full_path(item.source), request.destination.full_path(item.destination)
            if found[item.source].is_directory:
                data.add_item(*paths, recursive=True)
            else:
                data.add_item(*paths)
        return data

    def _size(self, request: TransferRequest, found: dict[RelativePath, Entry]) -> int | None:
        """Bytes to move; None if that would take long to learn. Globus then sets a deadline of its own."""
        total = 0
        for path, entry in found.items():
            if not entry.is_directory:
                total += entry.size
                continue
            try:
                facts = self._files.inspect(request.source, path, most_folders=_MOST_FOLDERS)
            except TooManyFolders:
                return None
            total += facts.size if facts else 0
        return total

    def _active(self, request: TransferRequest, task: Task) -> Status:
        meaning = errors.meaning(task.code)
        if task.ok and not task.paused:
            self._standstills.pop(task.id, None)
            return Running(progress=task.progress(""))
        if meaning.patience is Patience.NONE or self._exhausted(task, meaning.patience):
            return self._give_up(request, task, task.code, task.details)
        return Running(progress=task.progress(f"Globus tries again: {meaning.what}"))

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

    def _give_up(self, request: TransferRequest, task: Task, code: str, details: str) -> Status:
        """Cancel it, remember why, and report the end that Globus confirms; until then it is still running."""
        error = errors.fault(code, details=details, where=where(task.id), subject=_subject(request))
        self._given_up[task.id] = error
        if self._tasks.cancel(task.id) is CancelAnswer.UNKNOWN:
            return Running(progress=task.progress(f"being cancelled: {error.what}"))
        ended = self._tasks.get(task.id)
        if ended.status == "SUCCEEDED":
            return Arrival(self.clients, request, ended).verdict()
        return Failed(error=self._reason(request, ended), evidence={"task_id": task.id, "faults": ended.faults})

    def _reason(self, request: TransferRequest, task: Task) -> OperationFailed:
        ours = self._given_up.get(task.id)
        if task.code == "CANCELED" and ours is not None:
            return ours
        events = self._tasks.errors(task.id)
        details = next((event.details for event in events if event.code == task.code), task.details)
        return errors.fault(task.code, details=details, where=where(task.id), subject=_subject(request))


def _route(request: TransferRequest) -> str:
    return f"{request.source.name} to {request.destination.name}"


def _subject(request: TransferRequest) -> str:
    first = request.items[0].source.text
    more = f" and {len(request.items) - 1} more" if len(request.items) > 1 else ""
    return f"transfer of {first}{more} from {_route(request)}"
