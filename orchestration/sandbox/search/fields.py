"""Fields of entries: where their values are, and which type each has once and for all.

A field has the type of the first value that was indexed under its name. What can be widened to it without loss is
taken (an integer by a float, a number or boolean by a string); anything else fails the task that brings it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from orchestration.ledger.service import Document, Json

MAX_DEPTH = 20
MAX_FIELDS = 1000
MAX_LENGTH = 32 * 1024
"""Bytes of one text."""

_DATE = re.compile(
    r"\d{4}-\d\d-\d\d|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ?(Z|[+-]\d\d:?\d\d)"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)"
)
_TAKES = {
    "boolean": {"boolean"},
    "long": {"long"},
    "double": {"long", "double"},
    "date": {"date"},
    "text": {"text", "date", "boolean", "long", "double"},
    "object": {"object"},
}
"""The kinds of values that a field of each type takes."""


class Refused(Exception):
    """An entry that an index cannot take."""


def moment(text: str) -> datetime | None:
    """The time that a text says, if it is of a form that is taken for one."""
    if not _DATE.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def kind(value: bool | float | str) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "long"
        case float():
            return "double"
        case _:
            return "text" if moment(value) is None else "date"


def learn(known: Mapping[str, str], content: Document) -> dict[str, str]:
    """The types of an index with those of one more entry.

    Raises:
        Refused: if a value does not fit the type that its field has, or a limit of the service is passed.
    """
    types = dict(known)
    for name, found in _kinds("", content, 1):
        mapped = types.setdefault(name, found)
        if found not in _TAKES[mapped]:
            raise Refused(_mismatch(name, mapped, found))
    if len(types) > MAX_FIELDS:
        raise Refused(f"Limit of total fields [{MAX_FIELDS}] has been exceeded")
    return types


def values(content: Json, name: str) -> list[bool | int | float | str]:
    """All values at a dotted name, through lists; ``\\.`` is a dot in a key."""
    parts = [part.replace("\0", ".") for part in name.replace("\\.", "\0").split(".")]
    found: list[Json] = [content]
    for part in parts:
        found = [one[part] for one in _flat(found) if isinstance(one, dict) and part in one]
    return [one for one in _flat(found) if isinstance(one, bool | int | float | str)]


def texts(content: Json) -> Iterator[str]:
    """Everything that a search for words looks at."""
    if isinstance(content, dict):
        for value in content.values():
            yield from texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from texts(value)
    elif content is not None:
        yield str(content)


def _flat(found: list[Json]) -> Iterator[Json]:
    for one in found:
        if isinstance(one, list):
            yield from _flat(one)
        else:
            yield one


def _kinds(name: str, value: Json, depth: int) -> Iterator[tuple[str, str]]:
    """Every field below, with the kind of each of its values."""
    if depth > MAX_DEPTH:
        raise Refused(f"Limit of nested depth [{MAX_DEPTH}] has been exceeded at [{name}]")
    if isinstance(value, dict):
        if name:
            yield name, "object"
        for key, inner in value.items():
            escaped = key.replace(".", "\\.")
            yield from _kinds(f"{name}.{escaped}" if name else escaped, inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _kinds(name, inner, depth)
    elif value is not None:
        if isinstance(value, str) and len(value.encode()) > MAX_LENGTH:
            raise Refused(f"The value of field [{name}] is larger than {MAX_LENGTH} bytes")
        yield name, kind(value)


def _mismatch(name: str, mapped: str, found: str) -> str:
    if "object" in {mapped, found}:
        return f"object mapping for [{name}] and a concrete value exclude each other"
    return f"failed to parse field [{name}] of type [{mapped}]: a value of type [{found}] was given"
