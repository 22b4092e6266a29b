"""The entries of indexes, and the types of their fields; all of it outlives a restart."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock, documents
from orchestration.sandbox.search import fields
from orchestration.sandbox.search.answers import SearchError, invalid
from orchestration.sandbox.search.fields import Refused
from orchestration.sandbox.search.settings import IndexSettings
from orchestration.sandbox.store import Store

MAX_ENTRY = 10_000_000
"""Bytes, as JSON."""
MAX_SUBJECT = 500
MAX_VISIBLE_TO = 100
MAX_PER_SUBJECT = 10

_INDEX = "search-index"
_TYPES = "search-types"
_ENTRY = "search-entry:"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A GMetaEntry; subject and id together are its key, and `id` may be null."""

    subject: str
    id: str | None
    visible_to: tuple[str, ...]
    content: Document

    @property
    def key(self) -> str:
        return entry_key(self.subject, self.id)

    def document(self) -> Document:
        visible: list[Json] = [*self.visible_to]
        return {"subject": self.subject, "id": self.id, "visible_to": visible, "content": self.content}

    @classmethod
    def parse(cls, found: Document, where: tuple[str, ...] = ()) -> Entry:
        """Raises: SearchError 400."""
        for name in ("subject", "visible_to", "content"):
            if name not in found:
                raise invalid((*where, name), "Missing data for required field.")
        subject, id_, visible_to = found["subject"], found.get("id"), documents.strings(found, "visible_to")
        if not isinstance(subject, str) or not 0 < len(subject.encode()) <= MAX_SUBJECT:
            raise invalid((*where, "subject"), f"Must be a string of 1 to {MAX_SUBJECT} bytes.")
        if id_ is not None and not isinstance(id_, str):
            raise invalid((*where, "id"), "Not a valid string.")
        if not 0 < len(visible_to) <= MAX_VISIBLE_TO or visible_to != found["visible_to"]:
            raise invalid((*where, "visible_to"), f"Must be a list of 1 to {MAX_VISIBLE_TO} principals.")
        content = found["content"]
        if not isinstance(content, dict):
            raise invalid((*where, "content"), "Not a valid mapping type.")
        return cls(subject=subject, id=id_, visible_to=tuple(visible_to), content=content)


def entry_key(subject: str, id_: str | None) -> str:
    return json.dumps([subject, id_])


@dataclass
class Index:
    settings: IndexSettings
    created: str
    description: str = ""
    entries: dict[str, Entry] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.settings.identity

    def of_subject(self, subject: str) -> list[Entry]:
        return [entry for entry in self.snapshot() if entry.subject == subject]

    def snapshot(self) -> list[Entry]:
        """As they are now, whatever a task does meanwhile."""
        return list(self.entries.values())

    def view(self) -> Document:
        subjects = {entry.subject for entry in self.snapshot()}
        return {
            "@datatype": "GSearchIndex",
            "@version": "2017-09-01",
            "id": self.id,
            "display_name": self.settings.name,
            "description": self.description,
            "creation_date": self.created,
            "is_trial": True,
            "subscription_id": None,
            "max_size_in_mb": 1,
            "size_in_mb": 0,
            "num_entries": len(self.entries),
            "num_subjects": len(subjects),
            "status": "open",
        }


class Indexes:
    """All indexes: those of the settings, and those that clients created."""

    def __init__(self, settings: Iterable[IndexSettings], store: Store) -> None:
        self._settings = tuple(settings)
        self._store = store
        self._lock = threading.Lock()
        self._indexes: dict[str, Index] = {}
        self.load()

    def load(self) -> None:
        """Begin with what is stored; after a reset, with what the settings say."""
        with self._lock:
            self._indexes.clear()
            for _, row in self._store.every(_INDEX):
                self._open(_settings(row), row)
            for one in self._settings:
                if one.identity not in self._indexes:
                    self._open(one, {"created": _now()})

    def create(self, name: str, description: str, owner: str) -> Index:
        id_ = str(uuid.uuid4())
        settings = IndexSettings(name=name, id=id_, owners=(owner,))
        row: Document = {"id": id_, "name": name, "owner": owner, "created": _now(), "description": description}
        with self._lock:
            self._store.put(_INDEX, id_, row)
            return self._open(settings, row)

    def every(self) -> list[Index]:
        return list(self._indexes.values())

    def get(self, id_: str) -> Index:
        """Raises: SearchError 404."""
        found = self._indexes.get(id_)
        if found is None:
            raise SearchError(404, "NotFound.NoSuchIndex", f'There is no search index named "{id_}"')
        return found

    def put(self, index: Index, entry: Entry) -> None:
        """Insert, or replace.

        Raises:
            Refused: if the index cannot take it; nothing has changed then.
        """
        with self._lock:
            if len(json.dumps(entry.content).encode()) > MAX_ENTRY:
                raise Refused("The entry is larger than 10MB")
            others = sum(1 for one in index.of_subject(entry.subject) if one.key != entry.key)
            if others >= MAX_PER_SUBJECT:
                raise Refused(f"The subject has {others} entries, and cannot have more")
            types = fields.learn(index.types, entry.content)
            if types != index.types:
                index.types = types
                self._store.put(_TYPES, index.id, dict(types))
            index.entries[entry.key] = entry
            self._store.put(f"{_ENTRY}{index.id}", entry.key, entry.document())

    def remove(self, index: Index, entry: Entry) -> bool:
        with self._lock:
            self._store.remove(f"{_ENTRY}{index.id}", entry.key)
            return index.entries.pop(entry.key, None) is not None

    def _open(self, settings: IndexSettings, row: Document) -> Index:
        rows = self._store.every(f"{_ENTRY}{settings.identity}")
        types = self._store.get(_TYPES, settings.identity) or {}
        index = Index(
            settings=settings,
            created=documents.text(row, "created"),
            description=documents.text(row, "description"),
            entries={key: Entry.parse(entry) for key, entry in rows},
            types={name: str(kind) for name, kind in types.items()},
        )
        self._indexes[index.id] = index
        return index


def _settings(row: Document) -> IndexSettings:
    name, id_, owner = (documents.text(row, key) for key in ("name", "id", "owner"))
    return IndexSettings(name=name, id=id_, owners=(owner,))


def _now() -> str:
    """As Globus Search writes the date of an index."""
    return clock.now().strftime("%Y-%m-%d %H:%M:%S")
