"""Copies between endpoints that are directories of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from orchestration.ledger.service import CancelAnswer, Document, Json, Status
from orchestration.local import work
from orchestration.local.copying import Copied, Copier
from orchestration.local.files import mount
from orchestration.local.together import Together
from orchestration.local.work import Meter
from orchestration.policy import Permitted, Zone, opened
from orchestration.transfers import TransferItem, TransferRequest

LISTED_FILES = 500_000
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

    def submit(self, permitted: Permitted[TransferRequest], token: str) -> str:
        request = opened(permitted, TransferRequest)
        for item in request.items:
            request.source.local_path(item.source)
            request.destination.local_path(item.destination)
        work.submitted(token, state=self.state)
        self._begin(request, token)
        return token

    def poll(self, request: TransferRequest, handle: str) -> Status:
        lost = work.lost(handle, title=_title(request), state=self.state)
        return lost or self._begin(request, handle).status()

    def cancel(self, handle: str) -> CancelAnswer:
        return work.cancel(handle, state=self.state)

    def _begin(self, request: TransferRequest, token: str) -> work.Work:
        title = _title(request)
        return work.begin(token, lambda meter: _copy_all(request, token, meter), title=title, state=self.state)


def _title(request: TransferRequest) -> str:
    return f"copy {request.source.name} to {request.destination.name}"


def _copy_all(request: TransferRequest, token: str, meter: Meter) -> Document:
    root, there = mount(request.source), mount(request.destination)
    copier = Copier(owner=work.digest(token), meter=meter)
    ways = [
        (item, request.source.local_path(item.source), request.destination.local_path(item.destination))
        for item in request.items
    ]
    done: list[Copied] = []
    for single, some in groupby(ways, key=lambda way: os.path.isfile(way[1])):
        several = list(some)
        if single and len(several) > 1:
            together = Together(copier=copier, root=root, there=there)
            done += together.copy((source, destination) for _, source, destination in several)
        else:
            done += [
                copier.copy(source, destination, root=_reach(request, item), there=there)
                for item, source, destination in several
            ]
    return _evidence(request, list(zip(request.items, done, strict=True)))


def _reach(request: TransferRequest, item: TransferItem) -> Path:
    """Below what the links in a directory may lead. What lies elsewhere may be another's, or must not leave."""
    stays = request.destination.zone is Zone.BEAMLINE and not request.source.has_owners
    whole = mount(request.source)
    return whole if stays else request.source.local_path(item.source)


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
        "root": request.destination.root_path,
        "manifest": files[:LISTED_FILES],
        "manifest_complete": len(files) <= LISTED_FILES,
    }
