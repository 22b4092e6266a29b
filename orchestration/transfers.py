"""What can be asked of any mover of files, whoever moves them: copies, deletions, and a look at what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.config import Endpoint
from orchestration.errors import InvalidInput
from orchestration.paths import RelativePath
from orchestration.policy import Place

if TYPE_CHECKING:
    from orchestration.ledger.service import Document, Json


@dataclass(frozen=True, kw_only=True)
class TransferItem:
    """One file or one directory, and where it goes; a directory arrives under exactly that name."""

    source: RelativePath
    destination: RelativePath


@dataclass(frozen=True, kw_only=True)
class TransferRequest:
    """Copy `items` from one endpoint to another.

    Whether an item is a file or a directory is not said here: the source endpoint knows.
    """

    source: Endpoint
    destination: Endpoint
    items: tuple[TransferItem, ...]
    label: str = ""
    """For people who look at the list of tasks; no part of the request's identity."""

    def __post_init__(self) -> None:
        if not self.items:
            raise InvalidInput("a transfer without a file or directory was asked for")
        if len({item.destination for item in self.items}) != len(self.items):
            raise InvalidInput("two items of one transfer have the same destination", where=self.destination.name)

    @classmethod
    def of(
        cls,
        paths: RelativePath | Iterable[RelativePath] | Mapping[RelativePath, RelativePath],
        *,
        source: Endpoint,
        destination: Endpoint,
        label: str = "",
    ) -> TransferRequest:
        """One path, several, or a mapping from source to destination; unmapped paths keep their names."""
        if isinstance(paths, RelativePath):
            paths = {paths: paths}
        pairs = paths.items() if isinstance(paths, Mapping) else ((path, path) for path in paths)
        items = tuple(TransferItem(source=there, destination=here) for there, here in pairs)
        return cls(source=source, destination=destination, items=items, label=label)

    @property
    def place(self) -> Place:
        return self.destination.place

    def document(self) -> Document:
        items: list[Json] = [
            [self.source.full_path(item.source), self.destination.full_path(item.destination)] for item in self.items
        ]
        return {"source": _identity(self.source), "destination": _identity(self.destination), "items": items}


@dataclass(frozen=True, kw_only=True)
class DeleteRequest:
    """Delete `paths`, each a file or a whole directory, at one endpoint.

    With `ignore_missing`, what is already gone counts as deleted.
    """

    endpoint: Endpoint
    paths: tuple[RelativePath, ...]
    ignore_missing: bool = False
    label: str = ""

    def __post_init__(self) -> None:
        if not self.paths:
            raise InvalidInput("a deletion without a file or directory was asked for", where=self.endpoint.name)

    @property
    def place(self) -> Place:
        return self.endpoint.place

    def document(self) -> Document:
        paths: list[Json] = [self.endpoint.full_path(path) for path in self.paths]
        return {"endpoint": _identity(self.endpoint), "paths": paths, "ignore_missing": self.ignore_missing}


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What stands at a path: a file (size in bytes), or a directory (the sum over `manifest`).

    `modified` is in seconds since the epoch: of the file, or the latest of all files of the directory.
    `manifest` lists every file of a directory as (path below it, size), sorted; empty for a file.
    """

    is_directory: bool
    size: int
    modified: float
    manifest: tuple[tuple[str, int], ...] = ()

    @property
    def version(self) -> str:
        """Tells this version of a file from the next that is written under its name."""
        return f"{self.size}:{self.modified:.0f}"


def _identity(endpoint: Endpoint) -> Json:
    return str(endpoint.uuid) if endpoint.uuid else endpoint.name
