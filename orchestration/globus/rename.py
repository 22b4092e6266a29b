"""New names at Globus collections."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from orchestration.config import Endpoint
from orchestration.errors import EndpointRefused, InvalidPath, OperationFailed, SourceMissing
from orchestration.globus.auth import TransferClients
from orchestration.globus.files import GlobusFiles
from orchestration.ledger.service import CancelAnswer, Failed, Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.policy import Permitted, opened
from orchestration.transfers import Listed, RenameRequest


@dataclass(frozen=True)
class GlobusRename:
    """Gives one file or directory another name in the same collection, once. It is done when the answer comes.

    Globus keeps no record of it and knows no token: both names together tell whether it took place. Two requests can
    be looked at and sent at the same time, so that a name which appears between the look and the rename may be
    replaced, where the storage does that: rename to names that nobody else uses.
    """

    clients: TransferClients

    immediate = True

    @property
    def name(self) -> str:
        return "globus.rename"

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: RenameRequest, token: str) -> str | None:
        before, after = self._both(request)
        return token if _took_place(request, before, after) else None

    def submit(self, permitted: Permitted[RenameRequest], token: str) -> str:
        request = opened(permitted, RenameRequest)
        endpoint, collection = request.endpoint, request.endpoint.require_uuid()
        old, new = endpoint.full_path(request.path), endpoint.full_path(request.to)
        before, after = self._both(request)
        if _took_place(request, before, after):
            return token
        if before is None:
            raise SourceMissing(f"there is nothing to rename at {old}", where=endpoint.name)
        if after is not None:
            raise EndpointRefused(
                f"{old} cannot be renamed: {new} is there already",
                where=endpoint.name,
                next_step="look at both, and move one of them away",
            )
        self._demand_folders(endpoint, request.path, make=False)
        self._demand_folders(endpoint, request.to, make=True)
        try:
            self.clients.call(lambda client: client.operation_rename(collection, old, new), where=endpoint.name)
        except SourceMissing:
            # An answer that was lost, of a request that was late: it may have done it since both were looked at.
            if self.find(request, token) is None:
                raise
        return token

    def poll(self, request: RenameRequest, handle: str) -> Status:
        endpoint = request.endpoint
        old, new = endpoint.full_path(request.path), endpoint.full_path(request.to)
        if self._files.entry(endpoint, new) is not None:
            return Succeeded(evidence={"from": old, "to": new})
        lost = OperationFailed(f"{new} was given its name and is not there any more", where=endpoint.name)
        return Failed(error=lost)

    def cancel(self, handle: str) -> CancelAnswer:
        return CancelAnswer.ALREADY_FINISHED

    @property
    def _files(self) -> GlobusFiles:
        return GlobusFiles(self.clients)

    def _both(self, request: RenameRequest) -> tuple[Listed | None, Listed | None]:
        endpoint = request.endpoint
        old, new = endpoint.full_path(request.path), endpoint.full_path(request.to)
        return self._files.entry(endpoint, old), self._files.entry(endpoint, new)

    def _demand_folders(self, endpoint: Endpoint, path: RelativePath, *, make: bool) -> None:
        """All folders between the root and `path` are there, and none is a link, which might lead out of the root."""
        for folder in _above(endpoint, path):
            found = self._files.entry(endpoint, folder)
            if found is None and make:
                found = self._made(endpoint, folder)
            if found is None:
                raise SourceMissing(f"there is no folder {folder}", where=endpoint.name)
            if found.is_link:
                raise InvalidPath(
                    f"{folder} is a link: nothing is renamed through it",
                    where=endpoint.name,
                    next_step="make it a folder, or set `can_rename: false` for the endpoint",
                )
            if not found.is_directory:
                raise EndpointRefused(
                    f"{folder} is no folder", where=endpoint.name, next_step="check what stands at that path"
                )

    def _made(self, endpoint: Endpoint, folder: str) -> Listed | None:
        collection = endpoint.require_uuid()
        try:
            self.clients.call(lambda client: client.operation_mkdir(collection, folder), where=endpoint.name)
        except EndpointRefused:
            # Another run may have made it between the look and this.
            found = self._files.entry(endpoint, folder)
            if found is None:
                raise
            return found
        return self._files.entry(endpoint, folder)


def _took_place(request: RenameRequest, before: Listed | None, after: Listed | None) -> bool:
    return after is not None and (request.to_is_ours or before is None)


def _above(endpoint: Endpoint, path: RelativePath) -> Iterator[str]:
    """The folders that a path lies in, the highest first; the endpoint's own is not among them."""
    folder = endpoint.root_path
    for part in path.text.split("/")[:-1]:
        folder = posixpath.join(folder, part)
        yield folder
