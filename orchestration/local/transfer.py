"""Copies between endpoints that are directories of this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from orchestration.config import Endpoint
from orchestration.errors import ConfigError, EndpointRefused
from orchestration.ledger.service import CancelAnswer, Document, Json, Status
from orchestration.local import work
from orchestration.local.copying import Copied, Copier
from orchestration.local.work import Meter
from orchestration.transfers import TransferItem, TransferRequest

LISTED_FILES = 2000
"""Files named one by one in the evidence; beyond, the checksum over all of them must do."""


@dataclass(frozen=True, kw_only=True)
class LocalTransfer:
    """Copies in threads of this process; `state` is where processes of this machine learn of each other's copies.

    After the death of the process the copy is begun again by whoever polls it: it leaves either nothing or a whole,
    verified copy, and what has arrived is recognised by its bytes.
    """

    state: Path = field(default_factory=work.default_state)

    @property
    def name(self) -> str:
        return "local.transfer"

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: TransferRequest, token: str) -> str | None:
        return token if work.known(token, state=self.state) else None

    def submit(self, request: TransferRequest, token: str) -> str:
        for item in request.items:
            request.source.local_path(item.source)
            request.destination.local_path(item.destination)
        self._begin(request, token)
        return token

    def poll(self, request: TransferRequest, handle: str) -> Status:
        return self._begin(request, handle).status()

    def cancel(self, handle: str) -> CancelAnswer:
        return work.cancel(handle, state=self.state)

    def _begin(self, request: TransferRequest, token: str) -> work.Work:
        title = f"copy {request.source.name} to {request.destination.name}"
        return work.begin(token, lambda meter: _copy_all(request, token, meter), title=title, state=self.state)


def mount(endpoint: Endpoint) -> Path:
    """The directory of this machine where the endpoint is.

    Raises:
        ConfigError: if the settings name none.
        EndpointRefused: if it is not there, as when a network disk is not mounted.
    """
    found = endpoint.mount
    if found is None:
        raise ConfigError(f"endpoint {endpoint.name} is not mounted on this machine", next_step="set its `mount`")
    if not found.is_dir():
        raise EndpointRefused(
            f"{found}, where endpoint {endpoint.name} should be, is not there",
            where="this machine",
            next_step="mount it or correct its `mount` in the settings, then start the flow again",
        )
    return found


def _copy_all(request: TransferRequest, token: str, meter: Meter) -> Document:
    root, there = mount(request.source), mount(request.destination)
    copier = Copier(owner=work.digest(token), meter=meter)
    done = [
        (
            item,
            copier.copy(
                request.source.local_path(item.source),
                request.destination.local_path(item.destination),
                root=root,
                there=there,
            ),
        )
        for item in request.items
    ]
    return _evidence(request, done)


def _evidence(request: TransferRequest, done: list[tuple[TransferItem, Copied]]) -> Document:
    files: list[Json] = [
        {"path": "/".join(filter(None, (item.destination.text, file.name))), "size": file.size, "sha256": file.sha256}
        for item, copied in done
        for file in copied.files
    ]
    items: list[Json] = [
        {
            "source": item.source.text,
            "destination": item.destination.text,
            "files": len(copied.files),
            "bytes": copied.size,
            "sha256": copied.sha256,
            "skipped": copied.skipped,
        }
        for item, copied in done
    ]
    return {
        "files": len(files),
        "bytes": sum(copied.size for _, copied in done),
        "items": items,
        "manifest": files[:LISTED_FILES],
        "manifest_complete": len(files) <= LISTED_FILES,
    }
