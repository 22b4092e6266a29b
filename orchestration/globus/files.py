"""What stands at a path of a collection, as the collection says."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestration.config import Endpoint
from orchestration.errors import EndpointRefused, SourceMissing
from orchestration.globus.auth import TransferClients
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.transfers import FileFacts, Listed

_PAGE = 100_000
_FEW = 4
"""Up to so many paths of one folder are asked for one by one; for more the folder is listed once."""


class TooManyFolders(EndpointRefused):
    """Raised when a tree has more folders than the caller wanted to have listed."""


@dataclass(frozen=True)
class GlobusFiles:
    """Looks at collections; changes nothing."""

    clients: TransferClients

    def entry(self, endpoint: Endpoint, path: str) -> Listed | None:
        """The file or directory at a full path of the endpoint's collection; None if there is none."""
        collection = endpoint.require_uuid()
        try:
            answer = self.clients.read(
                lambda client: client.operation_stat(collection, path), where=f"{endpoint.name}:{path}"
            )
        except SourceMissing:
            return None
        return _parsed(answer.data)

    def entries(self, endpoint: Endpoint, paths: Iterable[RelativePath]) -> dict[RelativePath, Listed]:
        """Those of the paths that exist."""
        folders: dict[str, list[RelativePath]] = {}
        for path in paths:
            folders.setdefault(posixpath.dirname(endpoint.full_path(path)), []).append(path)
        found: dict[RelativePath, Listed] = {}
        for folder, members in folders.items():
            found |= self._together(endpoint, folder, members)
        return found

    def folders(self, endpoint: Endpoint, path: RelativePath) -> tuple[str, ...] | None:
        """The names of the folders in a folder, links and a quarantine left out; None if there is no such folder."""
        full = endpoint.full_path(path)
        top = self.entry(endpoint, full)
        if top is None or not top.is_directory:
            return None
        listed = self._listing(endpoint, full)
        names = (entry.name for entry in listed if entry.is_directory and not entry.is_link)
        return tuple(sorted(name for name in names if name != QUARANTINE))

    def listing(self, endpoint: Endpoint, path: RelativePath | None) -> tuple[Listed, ...] | None:
        """What lies directly in a folder (None: the root); None if there is no such folder."""
        full = endpoint.root_path if path is None else endpoint.full_path(path)
        top = self.entry(endpoint, full)
        if top is None or not top.is_directory:
            return None
        return tuple(self._listing(endpoint, full))

    def is_empty(self, endpoint: Endpoint) -> bool:
        """Whether nothing at all lies at its root, or there is no such folder."""
        top = self.entry(endpoint, endpoint.root_path)
        return top is None or (top.is_directory and not self._listing(endpoint, endpoint.root_path))

    def inspect(self, endpoint: Endpoint, path: RelativePath, *, most_folders: int = 100_000) -> FileFacts | None:
        """What stands at the path; None if nothing does.

        Links inside a directory are left out, as a transfer leaves them out.

        Raises:
            TooManyFolders: if listing it would take more than `most_folders` questions.
        """
        full = endpoint.full_path(path)
        top = self.entry(endpoint, full)
        if top is None:
            return None
        if not top.is_directory:
            return top.facts
        files = self._tree(endpoint, full, most_folders)
        return FileFacts(
            is_directory=True,
            size=sum(file.size for file in files.values()),
            modified=max((file.modified for file in files.values()), default=top.modified),
            manifest=tuple(sorted((name, file.size) for name, file in files.items())),
        )

    def _together(self, endpoint: Endpoint, folder: str, members: list[RelativePath]) -> dict[RelativePath, Listed]:
        if len(members) <= _FEW:
            single = {path: self.entry(endpoint, endpoint.full_path(path)) for path in members}
            return {path: entry for path, entry in single.items() if entry is not None}
        try:
            listed = {entry.name: entry for entry in self._listing(endpoint, folder)}
        except SourceMissing:
            return {}
        return {path: listed[path.name] for path in members if path.name in listed}

    def _tree(self, endpoint: Endpoint, top: str, most_folders: int) -> dict[str, Listed]:
        files: dict[str, Listed] = {}
        pending = [""]
        asked = 0
        while pending:
            below = pending.pop()
            asked += 1
            if asked > most_folders:
                raise TooManyFolders(f"{top} has more than {most_folders} folders", where=endpoint.name)
            for entry in self._listing(endpoint, posixpath.join(top, below)):
                name = posixpath.join(below, entry.name)
                if entry.is_link:
                    continue
                if entry.is_directory:
                    pending.append(name)
                else:
                    files[name] = entry
        return files

    def _listing(self, endpoint: Endpoint, folder: str) -> list[Listed]:
        collection = endpoint.require_uuid()
        entries: list[Listed] = []
        while True:
            offset = len(entries)
            answer = self.clients.read(
                lambda client: client.operation_ls(  # called before the loop goes on
                    collection,
                    folder,
                    show_hidden=True,
                    limit=_PAGE,
                    offset=offset,  # noqa: B023
                ),
                where=f"{endpoint.name}:{folder}",
            )
            page = [_parsed(row) for row in answer["DATA"]]
            entries += page
            if len(page) < _PAGE:
                return entries


def _parsed(document: Mapping[str, Any]) -> Listed:
    """One line of a listing."""
    return Listed(
        name=str(document["name"]),
        is_directory=document["type"] == "dir",
        is_link=document.get("link_target") is not None,
        size=int(document.get("size") or 0),
        modified=_seconds(document.get("last_modified")),
    )


def _seconds(text: object) -> float:
    """Times are written "2021-01-15 01:45:50+00:00"; some endpoints do not tell any."""
    if not isinstance(text, str):
        return 0.0
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
