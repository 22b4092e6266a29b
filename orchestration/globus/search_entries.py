"""Entries of a search index, as this service publishes and withdraws them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from orchestration.config import PUBLIC, SearchIndex, is_principal
from orchestration.errors import InvalidInput
from orchestration.ledger.service import Document, Json
from orchestration.policy import Place, Zone

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

_SEEN_BY_US = frozenset({PUBLIC, "all_authenticated_users"})


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


@dataclass(frozen=True, kw_only=True)
class PublishRequest:
    """Put an entry into an index, in the place of the one that has its key.

    To put an earlier one back, ask for it as another step: what the ledger has seen done, it does not do again.
    """

    index: SearchIndex
    entry: Entry

    @property
    def place(self) -> Place:
        return self.index.place

    @cached_property
    def digest(self) -> str:
        """Of all that is asked for, who may see it included: the index does not tell that back."""
        entry = self.entry
        return digest([str(self.index.uuid), entry.subject, entry.id, [*entry.visible_to], dict(entry.content)])

    def document(self) -> Document:
        """The content stands here by its digest: the ledger keeps this."""
        visible: list[Json] = [*self.entry.visible_to]
        return {**_key(self.index, self.entry.subject, self.entry.id), "visible_to": visible, "digest": self.digest}

    def payload(self, token: str, *, reader: str) -> Document:
        """The GMetaEntry; `reader` is this service, which has to see what it wrote to know that it is there."""
        mark: Document = {"operation": token, "digest": self.digest}
        entry = self.entry
        seen = not _SEEN_BY_US.isdisjoint(entry.visible_to)
        visible = dict.fromkeys([*entry.visible_to, *([] if seen else [reader])])
        return {
            "subject": entry.subject,
            "id": entry.id,
            "visible_to": [*visible],
            "content": {**entry.content, MARK: mark},
        }


@dataclass(frozen=True, kw_only=True)
class WithdrawRequest:
    """Take an entry out of an index, if it is there."""

    index: SearchIndex
    subject: str
    id: str = "metadata"

    @property
    def place(self) -> Place:
        """Nothing leaves the beamline by it: also what should never have been published can be withdrawn."""
        return Place(name=f"withdrawal from {self.index.place.name}", zone=Zone.BEAMLINE)

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
