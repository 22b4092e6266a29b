"""Facets (GFacet): what a result is made of, counted by subjects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TypeAlias

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.search import fields
from orchestration.sandbox.search.answers import invalid, whole
from orchestration.sandbox.search.filters import Scalar, keep_all

Result: TypeAlias = "Sequence[Sequence[Document]]"
"""Of each subject the contents of its entries."""

_VERSION = "2017-09-01"
_DEFAULT_SIZE = 10
_FORMATS = {
    "year": "%Y",
    "quarter": "%Y-%m",
    "month": "%Y-%m",
    "week": "%Y-%m-%d",
    "day": "%Y-%m-%d",
    "hour": "%Y-%m-%d %H:00:00",
    "minute": "%Y-%m-%d %H:%M:00",
    "second": "%Y-%m-%d %H:%M:%S",
}


def facets(request: Document, result: Result) -> list[Json]:
    """The answers to all facets of a request. Raises: SearchError 400."""
    found: list[Json] = []
    names: set[str] = set()
    for facet in documents.objects(request, "facets"):
        field = documents.text(facet, "field_name")
        name = documents.text(facet, "name", field)
        if not field:
            raise invalid(("facets", "field_name"), "Missing data for required field.")
        if name in names:
            raise invalid(("facets", "name"), "Facet names must be unique.")
        names.add(name)
        chosen = keep_all(facet, "additional_filters")
        part = [[content for content in contents if chosen(content)] for contents in result]
        head: Document = {"@datatype": "GFacetResult", "@version": _VERSION, "name": name}
        found.append(head | _kind(facet)(facet, _values(part, field)))
    return found


_Values: TypeAlias = "list[list[Scalar]]"


def _values(result: Result, field: str) -> _Values:
    """Of each subject the values of the field, each once."""
    return [
        list(dict.fromkeys(value for content in contents for value in fields.values(content, field)))
        for contents in result
    ]


def _kind(facet: Document) -> Callable[[Document, _Values], Document]:
    kind = _KINDS.get(documents.text(facet, "type", "terms"))
    if kind is None:
        raise invalid(("facets", "type"), f"Must be one of: {', '.join(sorted(_KINDS))}.")
    return kind


def _terms(facet: Document, values: _Values) -> Document:
    counts = Counter(value for of_subject in values for value in of_subject)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return _buckets((value, count) for value, count in ordered[: whole(facet, "size", _DEFAULT_SIZE)])


def _date_histogram(facet: Document, values: _Values) -> Document:
    interval = documents.text(facet, "date_interval")
    if interval not in _FORMATS:
        raise invalid(("facets", "date_interval"), f"Must be one of: {', '.join(_FORMATS)}.")
    counts = Counter(
        bucket for of_subject in values for bucket in {_date(value, interval) for value in of_subject} - {""}
    )
    return _buckets(sorted(counts.items()))


def _date(value: Scalar, interval: str) -> str:
    """The bucket of a time; empty if it is none."""
    moment = fields.moment(value) if isinstance(value, str) else None
    if moment is None:
        return ""
    moment = moment.astimezone(UTC)
    if interval == "week":
        moment = datetime.fromordinal(moment.toordinal() - moment.weekday())
    elif interval == "quarter":
        moment = moment.replace(day=1, month=(moment.month - 1) // 3 * 3 + 1)
    return moment.strftime(_FORMATS[interval])


def _numeric_histogram(facet: Document, values: _Values) -> Document:
    """Buckets of one width, all of them, each without its upper limit."""
    limits, size = documents.object_at(facet, "histogram_range"), whole(facet, "size", 0)
    low, high = documents.number(limits, "low"), documents.number(limits, "high")
    if size == 0 or not low < high:
        raise invalid(("facets",), "A numeric histogram needs a size and a histogram_range with low below high.")
    width = (high - low) / size
    edges = [low + number * width for number in range(size)] + [high]
    return _buckets(
        ({"from": start, "to": end}, sum(any(start <= value < end for value in _numbers(one)) for one in values))
        for start, end in pairwise(edges)
    )


def _sum(facet: Document, values: _Values) -> Document:
    return {"value": sum(_measured(facet, values))}


def _avg(facet: Document, values: _Values) -> Document:
    found = _measured(facet, values)
    return {"value": sum(found) / len(found) if found else None}


def _measured(facet: Document, values: _Values) -> list[float]:
    """All numbers; for a subject without any, what the facet says is taken for the missing one."""
    missing = [documents.number(facet, "missing")] if "missing" in facet else []
    return [number for of_subject in values for number in (_numbers(of_subject) or missing)]


def _distinct_count(_: Document, values: _Values) -> Document:
    return {"approximate_value": len({value for of_subject in values for value in of_subject})}


_KINDS: Mapping[str, Callable[[Document, _Values], Document]] = {
    "terms": _terms,
    "date_histogram": _date_histogram,
    "numeric_histogram": _numeric_histogram,
    "sum": _sum,
    "avg": _avg,
    "distinct_count": _distinct_count,
}


def _numbers(values: Sequence[Scalar]) -> list[float]:
    return [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _buckets(counts: Iterator[tuple[Json, int]] | Sequence[tuple[str, int]]) -> Document:
    rows: list[Json] = [
        {"@datatype": "GBucket", "@version": _VERSION, "value": value, "count": count} for value, count in counts
    ]
    return {"buckets": rows}
