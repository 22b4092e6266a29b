"""Questions to a search index, and their answers, as values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from orchestration.ledger.service import Document, Json

Scalar: TypeAlias = "bool | int | float | str"

VERSION = "query#1.0.0"
"""Of the query's form: in it all filters count before the facets, and `post_facet_filters` after them."""


class Filter(Protocol):
    """What the values of a field must be. A field is named by its path, with dots; ``\\.`` is a dot in a name."""

    def document(self) -> Document: ...


class Facet(Protocol):
    """What the result is to be counted by."""

    @property
    def name(self) -> str: ...

    def document(self) -> Document: ...


@dataclass(frozen=True)
class MatchAny:
    """One of the values is there."""

    field: str
    values: tuple[Scalar, ...]

    def document(self) -> Document:
        return {"type": "match_any", "field_name": self.field, "values": [*self.values]}


@dataclass(frozen=True)
class MatchAll:
    """Each of the values is there."""

    field: str
    values: tuple[Scalar, ...]

    def document(self) -> Document:
        return {"type": "match_all", "field_name": self.field, "values": [*self.values]}


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included: numbers, or dates as text; None is no limit."""

    field: str
    low: int | float | str | None = None
    high: int | float | str | None = None

    def document(self) -> Document:
        limits: Document = {
            "from": "*" if self.low is None else self.low,
            "to": "*" if self.high is None else self.high,
        }
        return {"type": "range", "field_name": self.field, "values": [limits]}


@dataclass(frozen=True)
class Exists:
    field: str

    def document(self) -> Document:
        return {"type": "exists", "field_name": self.field}


@dataclass(frozen=True)
class Like:
    """A text, in which ``*`` stands for any characters and ``?`` for one."""

    field: str
    pattern: str

    def document(self) -> Document:
        return {"type": "like", "field_name": self.field, "value": self.pattern}


@dataclass(frozen=True)
class Not:
    filter: Filter

    def document(self) -> Document:
        return {"type": "not", "filter": self.filter.document()}


@dataclass(frozen=True)
class Either:
    """At least one of the filters."""

    filters: tuple[Filter, ...]

    def document(self) -> Document:
        return {"type": "or", "filters": [one.document() for one in self.filters]}


@dataclass(frozen=True)
class Terms:
    """The most frequent values."""

    name: str
    field: str
    size: int = 10

    def document(self) -> Document:
        return {"name": self.name, "type": "terms", "field_name": self.field, "size": self.size}


class Interval(enum.StrEnum):
    YEAR = "year"
    QUARTER = "quarter"
    MONTH = "month"
    WEEK = "week"
    DAY = "day"
    HOUR = "hour"
    MINUTE = "minute"
    SECOND = "second"


@dataclass(frozen=True)
class DateHistogram:
    name: str
    field: str
    interval: Interval

    def document(self) -> Document:
        named: Document = {"name": self.name, "type": "date_histogram", "field_name": self.field}
        return named | {"date_interval": self.interval.value}


@dataclass(frozen=True)
class NumericHistogram:
    """`size` buckets of one width from `low` to `high`."""

    name: str
    field: str
    low: float
    high: float
    size: int

    def document(self) -> Document:
        named: Document = {"name": self.name, "type": "numeric_histogram", "field_name": self.field}
        return named | {"size": self.size, "histogram_range": {"low": self.low, "high": self.high}}


@dataclass(frozen=True)
class Sum:
    name: str
    field: str

    def document(self) -> Document:
        return {"name": self.name, "type": "sum", "field_name": self.field}


@dataclass(frozen=True)
class Average:
    name: str
    field: str

    def document(self) -> Document:
        return {"name": self.name, "type": "avg", "field_name": self.field}


@dataclass(frozen=True)
class Sort:
    field: str
    descending: bool = False

    def document(self) -> Document:
        return {"field_name": self.field, "order": "desc" if self.descending else "asc"}


@dataclass(frozen=True, kw_only=True)
class Query:
    """Words that entries have (any of them, the best match first), and filters; everything, if neither is given."""

    words: str = ""
    filters: tuple[Filter, ...] = ()
    facets: tuple[Facet, ...] = ()
    post_facet_filters: tuple[Filter, ...] = ()
    """For the result alone: the facets still count what these leave out."""
    sort: tuple[Sort, ...] = ()

    def document(self) -> Document:
        lists: dict[str, list[Json]] = {
            "filters": [one.document() for one in self.filters],
            "facets": [one.document() for one in self.facets],
            "post_facet_filters": [one.document() for one in self.post_facet_filters],
            "sort": [one.document() for one in self.sort],
        }
        given: Document = {name: value for name, value in lists.items() if value}
        return {"@version": VERSION, "q": self.words or "*", **given}


@dataclass(frozen=True)
class Span:
    """From `low` to, and without, `high`."""

    low: float
    high: float


@dataclass(frozen=True)
class Bucket:
    value: Scalar | Span
    count: int

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Bucket:
        value = row["value"]
        span = Span(float(value["from"]), float(value["to"])) if isinstance(value, Mapping) else value
        return cls(span, int(row["count"]))


@dataclass(frozen=True)
class Counted:
    """What a facet found: buckets, or a value (a sum, an average; None if there was nothing to measure)."""

    name: str
    buckets: tuple[Bucket, ...] = ()
    value: float | None = None

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Counted:
        value = row.get("value")
        buckets = tuple(Bucket.parse(bucket) for bucket in row.get("buckets") or ())
        return cls(str(row["name"]), buckets, None if value is None else float(value))


@dataclass(frozen=True)
class FoundEntry:
    subject: str
    id: str | None
    content: Mapping[str, Json]

    @classmethod
    def parse(cls, result: Mapping[str, Any]) -> list[FoundEntry]:
        """The entries of one subject."""
        return [cls(str(result["subject"]), row.get("entry_id"), row["content"]) for row in result["entries"]]


@dataclass(frozen=True, kw_only=True)
class Page:
    """`total` and `offset` count subjects, which may have several entries each."""

    entries: tuple[FoundEntry, ...]
    total: int
    offset: int
    has_more: bool
    facets: Mapping[str, Counted] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Page:
        counted = [Counted.parse(row) for row in document.get("facet_results") or ()]
        return cls(
            entries=tuple(entry for result in document["gmeta"] for entry in FoundEntry.parse(result)),
            total=int(document["total"]),
            offset=int(document["offset"]),
            has_more=bool(document["has_next_page"]),
            facets={one.name: one for one in counted},
        )
