"""Entries of a search index, as this service publishes and withdraws them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

from orchestration.config import PUBLIC, SearchIndex, is_principal
from orchestration.errors import InvalidInput
from orchestration.ledger.service import Document, Json
from orchestration.policy import Audience, Effect, Place

MARK = "orchestration"
"""Key of the content under which this service recognises its own entries.

It holds the operation that wrote the entry, and a digest of all that was asked for.
"""

MAX_ENTRY = 9_900_000
"""Bytes of content; a request may have 10 MB, and other things are in it as well."""
MAX_SUBJECT = 500
MAX_TEXT = 32 * 1024
MAX_DEPTH = 20
MAX_VISIBLE_TO = 99
"""Of 100: this service's own identity may be the last."""

EVERYBODY = frozenset({PUBLIC, "all_authenticated_users"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is said about a subject, and who may see it. Subject and id are its key: publishing it again replaces it."""

    subject: str
    id: str = "metadata"
    visible_to: tuple[str, ...]
    content: Mapping[str, Json]

    def __post_init__(self) -> None:
        problem = next(_problems(self), None)
        if problem is not None:
            raise InvalidInput(f"this cannot be published: {problem}", where=self.subject)


class Publication(Protocol):
    """What must be known of an entry that was published to find it again."""

    @property
    def index(self) -> SearchIndex: ...

    @property
    def subject(self) -> str: ...

    @property
    def id(self) -> str: ...

    @property
    def visible_to(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...

    def document(self) -> Document: ...


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """Put an entry into an index, in the place of the one that has its key.

    To put an earlier one back, ask for it as another step: what the ledger has seen done, it does not do again.
    """

    effect: ClassVar[Effect] = Effect.PUBLISH

    index: SearchIndex
    entry: Entry

    @property
    def place(self) -> Place:
        return self.index.place

    @property
    def subject(self) -> str:
        return self.entry.subject

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def visible_to(self) -> tuple[str, ...]:
        return self.entry.visible_to

    @property
    def audience(self) -> Audience:
        return Audience(readers=self.visible_to, everybody=not EVERYBODY.isdisjoint(self.visible_to))

    @cached_property
    def digest(self) -> str:
        """Of all that is asked for, who may see it included: the index does not tell that back."""
        entry = self.entry
        return digest([str(self.index.uuid), entry.subject, entry.id, [*entry.visible_to], dict(entry.content)])

    def document(self) -> Document:
        """The content stands here by its digest: the ledger keeps this."""
        return _document(self)

    def payload(self, token: str, *, reader: str) -> Document:
        """The GMetaEntry; `reader` is this service, which has to see what it wrote to know that it is there."""
        mark: Document = {"operation": token, "digest": self.digest}
        entry = self.entry
        seen = not EVERYBODY.isdisjoint(entry.visible_to)
        visible = dict.fromkeys([*entry.visible_to, *([] if seen else [reader])])
        return {
            "subject": entry.subject,
            "id": entry.id,
            "visible_to": [*visible],
            "content": {**entry.content, MARK: mark},
        }


@dataclass(frozen=True, kw_only=True)
class Published:
    """A publication as the ledger keeps it: enough to see what became of it, and too little to ask for it again."""

    effect: ClassVar[Effect] = Effect.PUBLISH

    index: SearchIndex
    subject: str
    id: str
    visible_to: tuple[str, ...]
    digest: str

    @classmethod
    def parse(cls, document: Document, indexes: Collection[SearchIndex]) -> Published:
        """Back from the ledger.

        Raises:
            InvalidInput: if this is not the document of a publication, or none of the indexes is its own (any more).
        """
        rows: Any = document
        try:
            index, visible_to = _index(rows["index"], indexes), tuple(map(str, rows["visible_to"]))
            named = {name: str(rows[name]) for name in ("subject", "id", "digest")}
        except (KeyError, TypeError) as error:
            raise InvalidInput(f"this is not the document of a publication: {error!r}") from error
        return cls(index=index, visible_to=visible_to, **named)

    @property
    def place(self) -> Place:
        return self.index.place

    def document(self) -> Document:
        return _document(self)


@dataclass(frozen=True, kw_only=True)
class WithdrawRequest:
    """Take an entry out of an index, if it is there."""

    effect: ClassVar[Effect] = Effect.DELETE

    index: SearchIndex
    subject: str
    id: str = "metadata"

    @property
    def place(self) -> Place:
        """It takes away what is there: also what should never have been published can be withdrawn."""
        return self.index.place

    @classmethod
    def parse(cls, document: Document, indexes: Collection[SearchIndex]) -> WithdrawRequest:
        """The request back from the ledger.

        Raises:
            InvalidInput: if this is not the document of a withdrawal, or none of the indexes is its own (any more).
        """
        try:
            index, subject, id_ = _index(document["index"], indexes), str(document["subject"]), str(document["id"])
        except KeyError as error:
            raise InvalidInput(f"this is not the document of a withdrawal: {error!r}") from error
        return cls(index=index, subject=subject, id=id_)

    def document(self) -> Document:
        return _key(self.index, self.subject, self.id)


def mark_of(content: Mapping[str, Json]) -> Document:
    """What this service wrote into an entry of its own; empty for those of others."""
    mark = content.get(MARK)
    return mark if isinstance(mark, dict) and "digest" in mark else {}


def digest(value: Json) -> str:
    """Of the JSON of a value, with one spelling for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _key(index: SearchIndex, subject: str, id_: str) -> Document:
    return {"index": str(index.uuid), "name": index.name, "subject": subject, "id": id_}


def _document(published: Publication) -> Document:
    visible: list[Json] = [*published.visible_to]
    key = _key(published.index, published.subject, published.id)
    return {**key, "visible_to": visible, "digest": published.digest}


def _index(uuid: Json, indexes: Collection[SearchIndex]) -> SearchIndex:
    found = next((one for one in indexes if str(one.uuid) == uuid), None)
    if found is None:
        raise InvalidInput(
            f"no search index of the settings is {uuid}",
            where="search.indexes",
            next_step="put the index back into config.yml until what was asked of it has ended",
        )
    return found


def _problems(entry: Entry) -> Iterator[str]:
    """What the index would refuse, or take and nobody could use."""
    if not 0 < len(entry.subject.encode()) <= MAX_SUBJECT:
        yield f"the subject must have 1 to {MAX_SUBJECT} bytes, and has {len(entry.subject.encode())}"
    if not entry.id:
        yield "the entry needs an id"
    if not 0 < len(entry.visible_to) <= MAX_VISIBLE_TO:
        yield f"it must be visible to 1 to {MAX_VISIBLE_TO} users or groups, and is to {len(entry.visible_to)}"
    for one in entry.visible_to:
        if not is_principal(one):
            yield f"visible to {one!r}, which is nobody that Globus knows"
    if MARK in entry.content:
        yield f"the field {MARK!r} belongs to this service"
    yield from _unfit("", dict(entry.content), 1)
    size = len(json.dumps(dict(entry.content)).encode())
    if size > MAX_ENTRY:
        yield f"it has {size} bytes, over {MAX_ENTRY}"


def _unfit(name: str, value: Json, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        yield f"{name} is nested more than {MAX_DEPTH} deep"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _unfit(f"{name}.{key}".lstrip("."), inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _unfit(name, inner, depth)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name} is not a finite number"
    elif isinstance(value, str) and len(value.encode()) > MAX_TEXT:
        yield f"the text in {name} has {len(value.encode())} bytes, over {MAX_TEXT}"
