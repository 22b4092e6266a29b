"""Finding datasets: LoopBack filters, full text, and scientific conditions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.scicat.answers import refusal
from orchestration.sandbox.scicat.units import in_si

_Test = Callable[[Json, Json], bool]


def parse(text: str | None) -> Document:
    """A JSON object out of the query string; empty where there is none. Raises: CatalogueError 400."""
    if not text:
        return {}
    try:
        return documents.decode(text.encode())
    except documents.NotADocument as error:
        raise refusal(400, f"Invalid JSON in filter: {error}", "Bad Request") from error


def value_at(document: Document, path: str) -> Json:
    """The value at a dotted path; None where there is none."""
    value: Json = document
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def matches(document: Document, where: Document) -> bool:
    """Whether a LoopBack (or Mongo) `where` holds."""
    return all(_holds(document, key, wanted) for key, wanted in where.items())


def _holds(document: Document, key: str, wanted: Json) -> bool:
    if key in {"and", "$and"}:
        return all(matches(document, one) for one in _branches(wanted))
    if key in {"or", "$or"}:
        return any(matches(document, one) for one in _branches(wanted))
    value = value_at(document, key)
    if isinstance(wanted, dict) and wanted and all(name.lstrip("$") in _TESTS for name in wanted):
        return all(_TESTS[name.lstrip("$")](value, bound) for name, bound in wanted.items())
    return _equal(value, wanted)


def _branches(value: Json) -> list[Document]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _equal(value: Json, wanted: Json) -> bool:
    """A list holds what it contains."""
    return value == wanted or (isinstance(value, list) and wanted in value)


def _any_of(value: Json, wanted: Json) -> bool:
    return isinstance(wanted, list) and any(_equal(value, one) for one in wanted)


def _like(value: Json, wanted: Json) -> bool:
    return isinstance(value, str) and isinstance(wanted, str) and re.search(wanted, value, re.IGNORECASE) is not None


def _order(test: Callable[[float | str, float | str], bool]) -> _Test:
    def compare(value: Json, bound: Json) -> bool:
        if isinstance(value, int | float) and isinstance(bound, int | float):
            return test(value, bound)
        return isinstance(value, str) and isinstance(bound, str) and test(value, bound)

    return compare


_TESTS: dict[str, _Test] = {
    "eq": _equal,
    "ne": lambda value, wanted: not _equal(value, wanted),
    "neq": lambda value, wanted: not _equal(value, wanted),
    "in": _any_of,
    "inq": _any_of,
    "nin": lambda value, wanted: not _any_of(value, wanted),
    "like": _like,
    "ilike": _like,
    "regex": _like,
    "regexp": _like,
    "exists": lambda value, wanted: (value is not None) == bool(wanted),
    "gt": _order(lambda value, bound: value > bound),  # type: ignore[operator]
    "gte": _order(lambda value, bound: value >= bound),  # type: ignore[operator]
    "lt": _order(lambda value, bound: value < bound),  # type: ignore[operator]
    "lte": _order(lambda value, bound: value <= bound),  # type: ignore[operator]
}

_FREE_TEXT = ("datasetName", "description", "sourceFolder", "owner", "principalInvestigator", "pid", "keywords")
_LISTED = ("keywords", "type", "ownerGroup", "creationLocation", "pid", "proposalId", "accessGroups")


def full_query(fields: Document) -> Callable[[Document], bool]:
    """The conditions of fullquery and fullfacet: text, lists of accepted values, and scientific conditions."""

    def holds(document: Document) -> bool:
        text = documents.text(fields, "text").lower()
        if text and not any(text in json.dumps(document.get(name)).lower() for name in _FREE_TEXT):
            return False
        for name in _LISTED:
            accepted = fields.get(name)
            wanted = accepted if isinstance(accepted, list) else [accepted]
            if accepted and not any(_equal(document.get(name), one) for one in wanted):
                return False
        return all(_scientific(document, one) for one in documents.objects(fields, "scientific"))

    return holds


def _scientific(document: Document, condition: Document) -> bool:
    metadata = documents.object_at(document, "scientificMetadata")
    quantity, bound = metadata.get(documents.text(condition, "lhs")), condition.get("rhs")
    value = quantity.get("value") if isinstance(quantity, dict) else quantity
    unit = documents.text(condition, "unit")
    if unit and isinstance(bound, int | float) and isinstance(quantity, dict):
        converted = in_si(bound, unit)
        value, bound = (quantity.get("valueSI"), converted[0]) if converted else (value, bound)
    match documents.text(condition, "relation"):
        case "GREATER_THAN":
            return _TESTS["gt"](value, bound)
        case "LESS_THAN":
            return _TESTS["lt"](value, bound)
        case "CONTAINS_STRING":
            return _like(value, re.escape(bound)) if isinstance(bound, str) else False
        case _:
            return _equal(value, bound)


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which part of what was found, in which order."""

    limit: int = 0
    skip: int = 0
    order: str = ""

    @classmethod
    def parse(cls, limits: Document) -> Window:
        order = documents.text(limits, "order")
        for name, direction in documents.object_at(limits, "sort").items():
            order = order or f"{name}:{direction}"
        return cls(limit=documents.whole(limits, "limit"), skip=documents.whole(limits, "skip"), order=order)

    def of(self, rows: Iterable[Document]) -> list[Document]:
        found = list(rows)
        name, _, direction = self.order.partition(":")
        if name:
            found.sort(key=lambda row: str(row.get(name)), reverse=direction.lower() == "desc")
        return found[self.skip : self.skip + self.limit if self.limit else None]


def projected(document: Document, filter_: Document) -> Document:
    """Only the fields that the filter names, as a list or as ``{name: true}``."""
    fields = filter_.get("fields")
    names = [name for name, wanted in fields.items() if wanted] if isinstance(fields, dict) else fields
    return documents.selected(document, cast("list[str]", names)) if isinstance(names, list) else document
