"""What the stand-in for Globus Search consists of."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.errors import ConfigError
from orchestration.ledger.service import Document
from orchestration.sandbox import documents

_NAMESPACE = uuid.UUID("5d0a4f0e-9b0c-4f5c-8a55-3c7d3a5b2a10")

INDEX = "publications"
"""The index of a facility that was given no other."""


def index_id(name: str) -> str:
    """The id of an index that was given none: the same for the same name, everywhere."""
    return str(uuid.uuid5(_NAMESPACE, name))


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """An index. `owners` and `writers` are principals (URNs); where neither is named, every client owns it."""

    name: str
    id: str = ""
    owners: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        return self.id or index_id(self.name)


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """`groups` are the members (identities) of each Globus group; `delay` is how many seconds a task waits its turn."""

    indexes: tuple[IndexSettings, ...] = (IndexSettings(name=INDEX),)
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    delay: float = 0.02


def parse(found: Document, *, where: Path) -> SearchSettings:
    """From ``{indexes: [{name, id?, owners?, writers?}], groups?: {id: [identity, ...]}, delay?}``.

    Raises:
        ConfigError: if an index has no name.
    """
    default = SearchSettings()
    rows = documents.objects(found, "indexes")
    members = documents.object_at(found, "groups")
    return SearchSettings(
        indexes=tuple(_index(row, where) for row in rows) if "indexes" in found else default.indexes,
        groups={name: frozenset(documents.strings(members, name)) for name in members},
        delay=documents.number(found, "delay", default.delay),
    )


def _index(row: Document, where: Path) -> IndexSettings:
    one = IndexSettings(
        name=documents.text(row, "name"),
        id=documents.text(row, "id"),
        owners=tuple(documents.strings(row, "owners")),
        writers=tuple(documents.strings(row, "writers")),
    )
    if not one.name:
        raise ConfigError("every search index needs a name", where=str(where))
    return one
