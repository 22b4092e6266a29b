"""What can be asked of any mover of files, whoever moves them: copies, deletions, new names, and a look at a path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from orchestration.config import Endpoint
from orchestration.errors import (
    AccessDenied,
    ChecksumMismatch,
    EndpointRefused,
    InvalidInput,
    InvalidPath,
    SourceChanged,
    SourceMissing,
)
from orchestration.paths import RelativePath
from orchestration.policy import Effect, Passage, Place

if TYPE_CHECKING:
    from orchestration.ledger.service import Document, Json


OF_ONE = (SourceMissing, AccessDenied, SourceChanged, ChecksumMismatch, EndpointRefused, InvalidPath)
"""What one file of a transfer may suffer from while the others are well."""


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

    effect: ClassVar[Effect] = Effect.MOVE

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

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """Out of whose folders into whose it goes. What is a link to something else is both, as far as that is seen."""
        return tuple(
            Passage(
                path=f"{self.destination.name}:{item.destination}",
                source=self.source.owner(path),
                destination=self.destination.owner(item.destination),
                origin=(self.source.name, path.text),
                asked=item.source.text,
                aliases=tuple(self.source.aliases(path)),
            )
            for item in self.items
            for path in dict.fromkeys((item.source, self.source.followed(item.source)))
        )

    def document(self) -> Document:
        items: list[Json] = [
            [self.source.full_path(item.source), self.destination.full_path(item.destination)] for item in self.items
        ]
        return {"source": _identity(self.source), "destination": _identity(self.destination), "items": items}

    @classmethod
    def parse(cls, document: Document, endpoints: Collection[Endpoint]) -> TransferRequest:
        """The request back from the ledger, between endpoints that have these places; it has lost only its label.

        Raises:
            InvalidInput: if this is not the document of a transfer, or no endpoint has its places (any more).
        """
        try:
            rows: Any = document["items"]
            pairs = [(str(there), str(here)) for there, here in rows]
            source = _named(document["source"], [there for there, _ in pairs], endpoints)
            destination = _named(document["destination"], [here for _, here in pairs], endpoints)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"this is not the document of a transfer: {error!r}") from error
        items = (
            TransferItem(source=source.relative(there), destination=destination.relative(here)) for there, here in pairs
        )
        return cls(source=source, destination=destination, items=tuple(items))

    def between(self, source: Endpoint, destination: Endpoint) -> TransferRequest:
        """The same request, said of other endpoints that have its places.

        Raises:
            InvalidPath: if they have not.
        """
        items = (
            TransferItem(
                source=source.relative(self.source.full_path(item.source)),
                destination=destination.relative(self.destination.full_path(item.destination)),
            )
            for item in self.items
        )
        return replace(self, source=source, destination=destination, items=tuple(items))


@dataclass(frozen=True, kw_only=True)
class DeleteRequest:
    """Delete `paths`, each a file or a whole directory, at one endpoint.

    With `ignore_missing`, what is already gone counts as deleted.
    """

    effect: ClassVar[Effect] = Effect.DELETE

    endpoint: Endpoint
    paths: tuple[RelativePath, ...]
    ignore_missing: bool = False
    seen: tuple[str, ...] = ()
    """For each path what stood there when its deletion was proved (`shown`); of requests that are older, nothing."""
    only_empty: bool = False
    """Folders, and folders in them: a file in one, whenever it came there, keeps it. Globus knows no such deletion."""
    label: str = ""

    def __post_init__(self) -> None:
        if not self.paths:
            raise InvalidInput("a deletion without a file or directory was asked for", where=self.endpoint.name)
        if self.seen and len(self.seen) != len(self.paths):
            raise InvalidInput("it is not said of each path what was seen there", where=self.endpoint.name)
        if self.only_empty and self.endpoint.uuid is not None:
            raise InvalidInput("Globus cannot be asked to delete only what is empty", where=self.endpoint.name)

    @property
    def place(self) -> Place:
        return self.endpoint.place

    def document(self) -> Document:
        paths: list[Json] = [self.endpoint.full_path(path) for path in self.paths]
        seen: Document = {"seen": [*self.seen]} if self.seen else {}
        empty: Document = {"only_empty": True} if self.only_empty else {}
        told: Document = {"endpoint": _identity(self.endpoint), "paths": paths, "ignore_missing": self.ignore_missing}
        return {**told, **seen, **empty}

    @classmethod
    def parse(cls, document: Document, endpoints: Collection[Endpoint]) -> DeleteRequest:
        """The request back from the ledger, at an endpoint that has these paths; it has lost only its label.

        Raises:
            InvalidInput: if this is not the document of a deletion, or no endpoint has its paths (any more).
        """
        try:
            rows: Any = document["paths"]
            seen: Any = document.get("seen", [])
            endpoint = _named(document["endpoint"], list(rows), endpoints)
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"this is not the document of a deletion: {error!r}") from error
        return cls(
            endpoint=endpoint,
            paths=tuple(endpoint.relative(path) for path in rows),
            ignore_missing=bool(document.get("ignore_missing")),
            seen=tuple(map(str, seen)),
            only_empty=bool(document.get("only_empty")),
        )


@dataclass(frozen=True, kw_only=True)
class RenameRequest:
    """Give the file or directory at `path` the name `to`, at the same endpoint; folders above `to` are made.

    What stands at `to` is never replaced. With `to_is_ours` only this very request ever puts anything there: then what
    stands there was renamed already, whatever has appeared at `path` since.
    """

    effect: ClassVar[Effect] = Effect.RENAME

    endpoint: Endpoint
    path: RelativePath
    to: RelativePath
    to_is_ours: bool = False
    seen: str = ""
    """What stood at `path` when it was proved that it may go (`shown`), if that was proved."""
    label: str = ""

    def __post_init__(self) -> None:
        one, other = f"{self.path}/", f"{self.to}/"
        if one.startswith(other) or other.startswith(one):
            raise InvalidInput(f"{self.path} cannot be renamed to {self.to}: one is in the other", where=self.where)

    @property
    def where(self) -> str:
        return self.endpoint.name

    @property
    def place(self) -> Place:
        return self.endpoint.place

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Out of whose folder into whose it goes."""
        source, destination = self.endpoint.owner(self.path), self.endpoint.owner(self.to)
        return (Passage(path=f"{self.endpoint.name}:{self.to}", source=source, destination=destination),)

    def document(self) -> Document:
        seen: Document = {"seen": self.seen} if self.seen else {}
        return {
            "endpoint": _identity(self.endpoint),
            "path": self.endpoint.full_path(self.path),
            "to": self.endpoint.full_path(self.to),
            "to_is_ours": self.to_is_ours,
            **seen,
        }

    @classmethod
    def parse(cls, document: Document, endpoints: Collection[Endpoint]) -> RenameRequest:
        """The request back from the ledger, at an endpoint that has both paths; it has lost only its label.

        Raises:
            InvalidInput: if this is not the document of a new name, or no endpoint has its paths (any more).
        """
        try:
            path, to = str(document["path"]), str(document["to"])
            endpoint = _named(document["endpoint"], [path, to], endpoints)
        except KeyError as error:
            raise InvalidInput(f"this is not the document of a new name: {error!r}") from error
        ours, seen = bool(document.get("to_is_ours")), str(document.get("seen", ""))
        return cls(
            endpoint=endpoint, path=endpoint.relative(path), to=endpoint.relative(to), to_is_ours=ours, seen=seen
        )


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

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size of each file by its path below this one; a file by itself has the empty path."""
        return dict(self.manifest) if self.is_directory else {"": self.size}


def shown(facts: FileFacts | None) -> str:
    """What a look has seen, in short: another look of the same kind has seen the same if it says the same."""
    if facts is None:
        return "nothing"
    told = [facts.is_directory, facts.size, facts.modified, facts.manifest]
    return hashlib.sha256(json.dumps(told).encode("ascii")).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One name in a folder, whether or not it can be carried. Bytes, and seconds since the epoch."""

    name: str
    is_directory: bool
    is_link: bool
    size: int
    modified: float

    @property
    def facts(self) -> FileFacts:
        """Of a file."""
        return FileFacts(is_directory=False, size=self.size, modified=self.modified)


def _identity(endpoint: Endpoint) -> Json:
    return str(endpoint.uuid) if endpoint.uuid else endpoint.name


def _named(identity: Json, paths: list[str], endpoints: Collection[Endpoint]) -> Endpoint:
    """The endpoint of that identity below which all these paths lie; of several, the one with the longest root."""
    fitting = [
        endpoint
        for endpoint in endpoints
        if _identity(endpoint) == identity and all(_below(endpoint, path) for path in paths)
    ]
    if not fitting:
        raise InvalidInput(
            f"no endpoint of the settings has {paths[0]} at {identity}",
            where="globus.globus_endpoints",
            next_step="put the endpoint back into config.yml until what is going on there has ended",
        )
    return max(fitting, key=lambda endpoint: len(endpoint.root_path))


def _below(endpoint: Endpoint, path: str) -> bool:
    try:
        endpoint.relative(path)
    except InvalidInput:
        return False
    return True
