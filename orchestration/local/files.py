"""What stands at a path of an endpoint on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestration.config import Endpoint
from orchestration.errors import ConfigError, EndpointRefused, InvalidPath, SourceChanged
from orchestration.local.errors import reading
from orchestration.local.trees import look
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.transfers import FileFacts, Listed, shown


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


def own_path(endpoint: Endpoint, path: RelativePath) -> Path:
    """Where the name itself is, be it a link: links above it are followed, it is not."""
    root = mount(endpoint)
    return (endpoint.local_path(path.parent) if path.parent else root.resolve()) / path.name


def inspect(endpoint: Endpoint, path: RelativePath) -> FileFacts | None:
    """What stands at the path; None if nothing does. Links are followed as in a copy: below the mount only.

    Raises:
        InvalidPath: if a link leads outside, or a name cannot be carried.
        TransferFailed: if it cannot be looked at (AccessDenied, EndpointRefused, ...).
    """
    root = mount(endpoint)
    full = endpoint.local_path(path)
    with reading(full):
        if not full.exists():
            return None
        own = full.stat().st_mtime
    tree = look(full, root=root)
    return FileFacts(
        is_directory=tree.is_directory,
        size=tree.size,
        modified=max((file.mtime_ns / 1e9 for file in tree.files), default=own),
        manifest=tuple((file.name, file.size) for file in tree.files) if tree.is_directory else (),
    )


def folders(endpoint: Endpoint, path: RelativePath) -> tuple[str, ...] | None:
    """The names of the folders in a folder, links and a quarantine left out; None if there is no such folder.

    Raises:
        TransferFailed: if it cannot be looked at (AccessDenied, EndpointRefused, ...).
    """
    mount(endpoint)
    full = endpoint.local_path(path)
    with reading(full):
        if not full.is_dir():
            return None
        found = (each for each in full.iterdir() if each.is_dir() and not each.is_symlink())
        return tuple(sorted(each.name for each in found if each.name != QUARANTINE))


def is_empty(endpoint: Endpoint) -> bool:
    """Whether nothing at all lies at the root of the endpoint.

    Raises:
        TransferFailed: if it cannot be looked at (AccessDenied, EndpointRefused, ...).
    """
    root = mount(endpoint)
    with reading(root):
        return next(root.iterdir(), None) is None


def demand_mounted(endpoint: Endpoint) -> None:
    """Nothing is gone from a disk that is not there: where one is not mounted, there is an empty folder.

    Raises:
        EndpointRefused: if nothing at all lies at the root of the endpoint.
    """
    if is_empty(endpoint):
        raise EndpointRefused(
            f"{endpoint.mount} is empty: its disk is not mounted, or all of it is lost",
            where="this machine",
            next_step="mount it, then start the flow again",
        )


def demand_seen(endpoint: Endpoint, path: RelativePath, seen: str) -> None:
    """That there is still what was seen there (`shown`), or nothing any more.

    Raises:
        SourceChanged: if it is something else, also a link that leads outside.
    """
    changed = SourceChanged(
        f"{own_path(endpoint, path)} is not what it was when it was proved that it may go; it was left alone",
        where="this machine",
        next_step="find out who wrote there; the next night looks at it anew",
    )
    try:
        facts = inspect(endpoint, path)
    except InvalidPath as error:
        raise changed from error
    if facts is not None and shown(facts) != seen:
        raise changed


def listing(endpoint: Endpoint, path: RelativePath | None) -> tuple[Listed, ...] | None:
    """What lies directly in a folder (None: the root); None if there is no such folder.

    Raises:
        TransferFailed: if it cannot be looked at (AccessDenied, EndpointRefused, ...).
    """
    root = mount(endpoint)
    full = root if path is None else endpoint.local_path(path)
    with reading(full):
        if not full.is_dir():
            return None
        with os.scandir(full) as entries:
            return tuple(_listed(entry) for entry in entries)


def _listed(entry: os.DirEntry[str]) -> Listed:
    facts = entry.stat(follow_symlinks=False)
    return Listed(
        name=entry.name,
        is_directory=entry.is_dir(follow_symlinks=False),
        is_link=entry.is_symlink(),
        size=facts.st_size,
        modified=facts.st_mtime,
    )


@dataclass(frozen=True, kw_only=True)
class Space:
    """Of the file system behind an endpoint, in bytes; `free` is what those may use who are not root."""

    free: int
    total: int


def space(endpoint: Endpoint) -> Space:
    """How full its disk is.

    Raises:
        TransferFailed: if it cannot be looked at (AccessDenied, EndpointRefused, ...).
    """
    root = mount(endpoint)
    with reading(root):
        facts = os.statvfs(root)
    return Space(free=facts.f_bavail * facts.f_frsize, total=facts.f_blocks * facts.f_frsize)
