"""Deletions at Globus collections."""

from __future__ import annotations

from dataclasses import dataclass, field

import globus_sdk

from orchestration.config import TransferPolicy
from orchestration.errors import OperationFailed, SourceMissing, TransferConflict
from orchestration.globus.auth import TransferClients
from orchestration.globus.files import GlobusFiles
from orchestration.globus.tasks import GlobusTasks, Task, label, submit, where
from orchestration.globus.watching import TaskWatch
from orchestration.ledger.service import CancelAnswer, Failed, Json, Status, Succeeded
from orchestration.policy import Permitted, opened
from orchestration.transfers import DeleteRequest


@dataclass(frozen=True)
class GlobusDelete:
    """Deletes exactly what is named, each request once, and sees that it is gone.

    Whether it may be deleted is not asked here: that is the business of `orchestration.retention`.
    """

    clients: TransferClients
    policy: TransferPolicy = field(default_factory=TransferPolicy)
    _watch: TaskWatch = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_watch", TaskWatch(self.clients, self.policy))

    @property
    def name(self) -> str:
        return "globus.delete"

    def reserve(self, key: str) -> str:
        return self._tasks.reserve()

    def find(self, request: DeleteRequest, token: str) -> str | None:
        return self._tasks.find(token)

    def submit(self, permitted: Permitted[DeleteRequest], token: str) -> str:
        request = opened(permitted, DeleteRequest)
        found = GlobusFiles(self.clients).entries(request.endpoint, request.paths)
        missing = [path for path in request.paths if path not in found]
        if missing and not request.ignore_missing:
            known = self._tasks.find(token)  # what this very request has deleted is missing, too
            if known is not None:
                return known
            full = request.endpoint.full_path(missing[0])
            raise SourceMissing(f"there is nothing to delete at {full}", where=request.endpoint.name)
        recursive = any(entry.is_directory for entry in found.values())
        try:
            return submit(self.clients, _data(request, token, recursive=recursive), where=request.endpoint.name)
        except TransferConflict as refusal:
            return self._tasks.adopt(request, refusal)

    def poll(self, request: DeleteRequest, handle: str) -> Status:
        return self._watch.look(handle, subject=_subject(request), proof=lambda task: self._proof(request, task))

    def cancel(self, handle: str) -> CancelAnswer:
        return self._tasks.cancel(handle)

    @property
    def _tasks(self) -> GlobusTasks:
        return GlobusTasks(self.clients)

    def _proof(self, request: DeleteRequest, task: Task) -> Status:
        left = GlobusFiles(self.clients).entries(request.endpoint, request.paths)
        paths: list[Json] = [request.endpoint.full_path(path) for path in request.paths]
        if not left:
            return Succeeded(evidence={"task_id": task.id, "paths": paths, "completed": task.completed})
        full = request.endpoint.full_path(next(iter(left)))
        return Failed(
            error=OperationFailed(f"{full} was deleted and is there again, or still", where=where(task.id)),
            evidence={"task_id": task.id, "paths": paths},
        )


def _data(request: DeleteRequest, token: str, *, recursive: bool) -> globus_sdk.DeleteData:
    data = globus_sdk.DeleteData(
        request.endpoint.require_uuid(),
        label=label(request.label or f"delete at {request.endpoint.name}", request=request, token=token),
        submission_id=token,
        recursive=recursive,
        ignore_missing=request.ignore_missing,
        interpret_globs=False,
        notify_on_succeeded=False,
        notify_on_failed=False,
        notify_on_inactive=False,
    )
    for path in request.paths:
        data.add_item(request.endpoint.full_path(path))
    return data


def _subject(request: DeleteRequest) -> str:
    more = f" and {len(request.paths) - 1} more" if len(request.paths) > 1 else ""
    return f"deletion of {request.paths[0]}{more} at {request.endpoint.name}"
