"""Searches of an index: by words and filters, with facets, in an order, page by page."""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.search import fields
from orchestration.sandbox.search.answers import invalid, whole
from orchestration.sandbox.search.entries import Entry
from orchestration.sandbox.search.facets import facets
from orchestration.sandbox.search.filters import compared, keep_all
from orchestration.sandbox.search.words import selection

MOST_RESULTS = 10_000
"""As many can be had of one search; all of them by scrolling."""

_LEGACY = "2017-09-01"


@dataclass(frozen=True)
class Hit:
    """A subject, and those of its entries that match."""

    subject: str
    entries: tuple[Entry, ...]
    score: float

    def view(self) -> Document:
        return result(self.subject, self.entries)


def result(subject: str, entries: Sequence[Entry]) -> Document:
    """A GMetaResult."""
    rows: list[Json] = [
        {"content": entry.content, "entry_id": entry.id, "matched_principal_sets": []} for entry in entries
    ]
    return {"@datatype": "GMetaResult", "@version": "2019-08-27", "subject": subject, "entries": rows}


def search(request: Document, visible: Sequence[Entry]) -> Document:
    """A GSearchResult. Raises: SearchError 400."""
    limit, offset = _page(request)
    chosen = selection(request, keep_all(request, "filters", chosen=lambda one: not _is_post(request, one)))
    hits = _hits(visible, chosen)
    counted = facets(request, [[entry.content for entry in hit.entries] for hit in hits])
    hits = _ordered(request, _hits([entry for hit in hits for entry in hit.entries], _post(request, chosen)))
    page = hits[offset : offset + limit]
    more = offset + limit < min(len(hits), MOST_RESULTS)
    answer: Document = {
        "@datatype": "GSearchResult",
        "@version": "2017-09-01",
        "count": len(page),
        "offset": offset,
        "total": len(hits),
        "has_next_page": more,
        "gmeta": [hit.view() for hit in page],
    }
    return answer | ({"facet_results": counted} if counted else {})


def scroll(request: Document, visible: Sequence[Entry]) -> Document:
    """A GScrollResult: all that matches, in the order of the subjects. Raises: SearchError 400."""
    limit, after = whole(request, "limit", 10), _unmarked(request)
    hits = sorted(_hits(visible, selection(request)), key=lambda hit: hit.subject)
    rest = [hit for hit in hits if after is None or hit.subject > after]
    page = rest[:limit]
    more = len(rest) > len(page)
    rows: list[Json] = [hit.view() for hit in page]
    return {
        "@datatype": "GScrollResult",
        "@version": "2017-09-01",
        "count": len(page),
        "total": len(hits),
        "has_next_page": more,
        "marker": base64.urlsafe_b64encode(page[-1].subject.encode()).decode() if more and page else None,
        "gmeta": rows,
    }


def _page(request: Document) -> tuple[int, int]:
    limit, offset = whole(request, "limit", 10), whole(request, "offset", 0)
    if limit > MOST_RESULTS or offset + limit > MOST_RESULTS:
        raise invalid(("limit",), f"offset and limit together cannot be more than {MOST_RESULTS}.")
    return limit, offset


def _hits(entries: Sequence[Entry], chosen: Callable[[Entry], float | None]) -> list[Hit]:
    """By score; what was indexed first comes first among equals."""
    found: dict[str, list[tuple[Entry, float]]] = {}
    for entry in entries:
        score = chosen(entry)
        if score is not None:
            found.setdefault(entry.subject, []).append((entry, score))
    hits = [
        Hit(subject, tuple(entry for entry, _ in rows), max(score for _, score in rows))
        for subject, rows in found.items()
    ]
    return sorted(hits, key=lambda hit: -hit.score)


def _post(request: Document, chosen: Callable[[Entry], float | None]) -> Callable[[Entry], float | None]:
    """With the filters that facets take no notice of."""
    legacy = keep_all(request, "filters", chosen=lambda one: _is_post(request, one))
    later = keep_all(request, "post_facet_filters")
    return lambda entry: chosen(entry) if legacy(entry.content) and later(entry.content) else None


def _is_post(request: Document, filter_: Document) -> bool:
    """Only in the first version of the query is it said by the filter itself."""
    if documents.text(request, "@version", _LEGACY) != _LEGACY:
        return False
    return documents.flag(filter_, "post_filter", default=filter_.get("type") != "match_all")


def _ordered(request: Document, hits: list[Hit]) -> list[Hit]:
    """By the fields of the request, the last first: each sort keeps the order of the one before among equals."""
    for sort in reversed(documents.objects(request, "sort")):
        name, descending = documents.text(sort, "field_name"), documents.text(sort, "order", "desc") != "asc"
        if not name:
            raise invalid(("sort", "field_name"), "Missing data for required field.")
        key = _key(descending=descending)
        valued = [(hit, _first(hit, name, key)) for hit in hits]
        known = sorted((pair for pair in valued if pair[1] is not None), key=lambda pair: key(pair[1]))
        hits = [hit for hit, _ in known] + [hit for hit, value in valued if value is None]
    return hits


def _first(hit: Hit, name: str, key: Callable[[Json], Any]) -> Json:
    """Of several values of the field the one that comes first in this order; None if there is none."""
    found = [value for entry in hit.entries for value in fields.values(entry.content, name)]
    return min(found, key=key, default=None)


def _key(*, descending: bool) -> Callable[[Json], Any]:
    """For sorting values of one field; what cannot be compared is equal."""
    sign = -1 if descending else 1

    def order(one: Json, other: Json) -> int:
        return sign * (compared(one, other) or 0)

    return functools.cmp_to_key(order)


def _unmarked(request: Document) -> str | None:
    marker = request.get("marker")
    if marker is None:
        return None
    try:
        return base64.urlsafe_b64decode(str(marker)).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise invalid(("marker",), "Not a valid marker.") from error
