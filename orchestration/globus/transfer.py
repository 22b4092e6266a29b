"""Transfers between Globus collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import globus_sdk

from orchestration.config import TransferPolicy
from orchestration.errors import SourceMissing, TransferConflict
from orchestration.globus.auth import TransferClients
from orchestration.globus.files import GlobusFiles, TooManyFolders
from orchestration.globus.proof import Arrival
from orchestration.globus.tasks import GlobusTasks, label, submit
from orchestration.globus.watching import TaskWatch
from orchestration.ledger.service import CancelAnswer, Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.policy import Permitted, opened
from orchestration.transfers import Listed, TransferRequest

_MOST_FOLDERS = 20
"""Folders listed before a submission only to learn how much there is to move."""


@dataclass(frozen=True)
class GlobusTransfer:
    """Copies verified by checksum, each exactly once.

    Recursion is decided by what the source collection says, never by this machine's disks.
    """

    clients: TransferClients
    policy: TransferPolicy = field(default_factory=TransferPolicy)
    _watch: TaskWatch = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_watch", TaskWatch(self.clients, self.policy))

    @property
    def name(self) -> str:
        return "globus.transfer"

    def reserve(self, key: str) -> str:
        return self._tasks.reserve()

    def find(self, request: TransferRequest, token: str) -> str | None:
        return self._tasks.find(token)

    def submit(self, permitted: Permitted[TransferRequest], token: str) -> str:
        request = opened(permitted, TransferRequest)
        found = self._files.entries(request.source, (item.source for item in request.items))
        missing = next((item.source for item in request.items if item.source not in found), None)
        if missing is not None:
            known = self._tasks.find(token)  # it may have been moved already, and removed by somebody since
            if known is not None:
                return known
            raise SourceMissing(f"there is nothing at {request.source.full_path(missing)}", where=request.source.name)
        try:
            return submit(self.clients, self._data(request, token, found), where=_route(request))
        except TransferConflict as refusal:
            return self._tasks.adopt(request, refusal)

    def poll(self, request: TransferRequest, handle: str) -> Status:
        return self._watch.look(
            handle, subject=_subject(request), proof=lambda task: Arrival(self.clients, request, task).verdict()
        )

    def poll_many(self, items: Sequence[tuple[TransferRequest, str]]) -> Mapping[str, Status]:
        """By one list of this identity's active tasks: what is not on it has ended, one way or the other."""
        active = self._tasks.active()
        return {
            handle: self._watch.glance(active[handle]) if handle in active else Succeeded(evidence={"task_id": handle})
            for _, handle in items
        }

    def cancel(self, handle: str) -> CancelAnswer:
        return self._tasks.cancel(handle)

    @property
    def _tasks(self) -> GlobusTasks:
        return GlobusTasks(self.clients)

    @property
    def _files(self) -> GlobusFiles:
        return GlobusFiles(self.clients)

    def _data(self, request: TransferRequest, token: str, found: dict[RelativePath, Listed]) -> globus_sdk.TransferData:
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

    def _size(self, request: TransferRequest, found: dict[RelativePath, Listed]) -> int | None:
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


def _route(request: TransferRequest) -> str:
    return f"{request.source.name} to {request.destination.name}"


def _subject(request: TransferRequest) -> str:
    first = request.items[0].source.text
    more = f" and {len(request.items) - 1} more" if len(request.items) > 1 else ""
    return f"transfer of {first}{more} from {_route(request)}"
