"""Filters of a search (GFilter): what the values of a field must be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.search import fields
from orchestration.sandbox.search.answers import invalid, unsupported

Keep: TypeAlias = "Callable[[Document], bool]"
"""Whether a filter lets content through."""

Scalar: TypeAlias = "bool | int | float | str"


def keep_all(found: Document, name: str, *, chosen: Callable[[Document], bool] = lambda _: True) -> Keep:
    """All filters in a list of the request, or those of them that are chosen. Raises: SearchError 400."""
    keeps = [keep(one) for one in documents.objects(found, name) if chosen(one)]
    return lambda content: all(each(content) for each in keeps)


def keep(found: Document) -> Keep:
    """Raises: SearchError 400 for a filter that is not of a known form."""
    type_ = documents.text(found, "type")
    if type_ in {"and", "or", "not"}:
        return _combined(type_, found)
    if type_.startswith("geo"):
        raise unsupported(f"filter of type {type_!r}")
    make = _SIMPLE.get(type_)
    if make is None:
        known = ", ".join(sorted({*_SIMPLE, "and", "or", "not"}))
        raise invalid(("filters", "type"), f"Must be one of: {known}.")
    name = documents.text(found, "field_name")
    if not name:
        raise invalid(("filters", "field_name"), "Missing data for required field.")
    matches = make(found)
    return lambda content: matches(fields.values(content, name))


def same(one: Json, other: Json) -> bool:
    """Equal, and true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _combined(type_: str, found: Document) -> Keep:
    if type_ == "not":
        refused = keep(documents.object_at(found, "filter"))
        return lambda content: not refused(content)
    keeps = [keep(one) for one in documents.objects(found, "filters")]
    if type_ == "and":
        return lambda content: all(each(content) for each in keeps)
    return lambda content: any(each(content) for each in keeps)


_Matches: TypeAlias = "Callable[[list[Scalar]], bool]"


def _wanted(found: Document) -> list[Json]:
    wanted = found.get("values")
    if not isinstance(wanted, list) or not wanted:
        raise invalid(("filters", "values"), "Must be a list with at least one value.")
    return wanted


def _match_any(found: Document) -> _Matches:
    wanted = _wanted(found)
    return lambda has: any(same(value, one) for value in has for one in wanted)


def _match_all(found: Document) -> _Matches:
    wanted = _wanted(found)
    return lambda has: all(any(same(value, one) for value in has) for one in wanted)


def _range(found: Document) -> _Matches:
    rows = [row for row in _wanted(found) if isinstance(row, dict)]
    return lambda has: any(_within(value, row) for value in has for row in rows)


def _exists(_: Document) -> _Matches:
    return bool


def _like(found: Document) -> _Matches:
    """``*`` is any text and ``?`` any character."""
    parts = re.split(r"([*?])", documents.text(found, "value"))
    pattern = re.compile("".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts), re.DOTALL)
    return lambda has: any(isinstance(value, str) and pattern.fullmatch(value) is not None for value in has)


_SIMPLE: Mapping[str, Callable[[Document], _Matches]] = {
    "match_any": _match_any,
    "match_all": _match_all,
    "range": _range,
    "exists": _exists,
    "like": _like,
}


_LIMITS: Mapping[str, Callable[[float], bool]] = {
    "from": lambda order: order >= 0,
    "to": lambda order: order <= 0,
    "gte": lambda order: order >= 0,
    "gt": lambda order: order > 0,
    "lte": lambda order: order <= 0,
    "lt": lambda order: order < 0,
}
"""By the name of a limit: whether a value may be so much (above zero: greater) than it."""


def _within(value: Scalar, row: Document) -> bool:
    for name, holds in _LIMITS.items():
        limit = row.get(name, "*")
        if limit != "*" and ((order := compared(value, limit)) is None or not holds(order)):
            return False
    return True


def compared(value: Json, limit: Json) -> int | None:
    """-1, 0 or 1: as numbers, as times or as texts; None if the two cannot be compared."""
    if isinstance(value, bool) or isinstance(limit, bool):
        return None
    if isinstance(value, int | float) and isinstance(limit, int | float):
        return (value > limit) - (value < limit)
    if not isinstance(value, str) or not isinstance(limit, str):
        return None
    one, other = fields.moment(value), fields.moment(limit)
    if one is not None and other is not None:
        return (one > other) - (one < other)
    return (value > limit) - (value < limit)
