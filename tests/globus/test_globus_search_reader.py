"""Reading an index: pages, facets and everything, as values; and what its refusals mean."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import globus_sdk
import pytest
import requests
from search_ground import Shown, shown

from orchestration.errors import CatalogueRefused, ConfigError, OrchestrationError, ServiceUnavailable
from orchestration.globus.search_errors import missing, translate
from orchestration.globus.search_queries import (
    Average,
    Bucket,
    DateHistogram,
    Either,
    Exists,
    Interval,
    Like,
    MatchAll,
    MatchAny,
    Not,
    NumericHistogram,
    Query,
    Range,
    Sort,
    Span,
    Sum,
    Terms,
)
from orchestration.globus.search_reader import GlobusSearch
from orchestration.sandbox.testing import RunningFacility

SCANS = [
    {
        "dc": {"titles": [{"title": f"Scan {number}"}], "dates": [{"date": f"2026-{number % 3 + 1:02}-01T00:00:00Z"}]},
        "project_metadata": {"cycle": "2026-1" if number % 4 else "2025-3", "dose": number / 10},
        "status": {"state": "failed" if number % 10 == 0 else "final"},
    }
    for number in range(60)
]


@pytest.fixture(scope="module")
def search(facility: RunningFacility) -> Iterator[Shown]:
    with pytest.MonkeyPatch.context() as patch:
        facility.client.reset()
        for name, value in facility.environment().items():
            patch.setenv(name, value)
        found = shown(facility)
        rows = [
            {"subject": f"s{number:04}", "id": "metadata", "visible_to": ["public"], "content": content}
            for number, content in enumerate(SCANS)
        ]
        body = {"ingest_type": "GMetaList", "ingest_data": {"gmeta": rows}}
        task = found.clients().ingest(found.index.uuid, body)["task_id"]
        while found.clients().get_task(task)["state"] != "SUCCESS":
            pass
        yield found


@pytest.fixture
def reader(search: Shown) -> GlobusSearch:
    return GlobusSearch(search.clients)


def test_pages_follow_one_another_in_the_order_that_was_asked_for(search: Shown, reader: GlobusSearch) -> None:
    query = Query(sort=(Sort("project_metadata.dose", descending=True),))
    first = reader.page(search.index, query, limit=40)
    second = reader.page(search.index, query, limit=40, offset=40)
    assert [(page.total, page.offset, page.has_more) for page in (first, second)] == [(60, 0, True), (60, 40, False)]
    found = [entry.subject for entry in (*first.entries, *second.entries)]
    assert found == [f"s{number:04}" for number in reversed(range(60))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(filters=(MatchAny("status.state", ("failed",)),)), 6),
        (Query(filters=(MatchAll("status.state", ("failed", "final")),)), 0),
        (Query(filters=(Range("project_metadata.dose", low=1, high=2),)), 11),
        (Query(filters=(Range("dc.dates.date", high="2026-01-31"),)), 20),
        (Query(filters=(Exists("project_metadata.sample"),)), 0),
        (Query(filters=(Not(Exists("project_metadata.sample")),)), 60),
        (Query(filters=(Like("dc.titles.title", "Scan ?"),)), 10),
        (Query(words='"scan 7"'), 1),
        (
            Query(
                filters=(Either((MatchAny("status.state", ("failed",)), MatchAny("project_metadata.dose", (0.1,)))),)
            ),
            7,
        ),
    ],
)
def test_words_and_filters_find_what_they_say(search: Shown, reader: GlobusSearch, query: Query, found: int) -> None:
    assert reader.page(search.index, query).total == found
    assert len(list(reader.every(search.index, query))) == found


def test_facets_are_what_a_plain_count_finds(search: Shown, reader: GlobusSearch) -> None:
    facets = (
        Terms("cycles", "project_metadata.cycle"),
        DateHistogram("months", "dc.dates.date", Interval.MONTH),
        NumericHistogram("doses", "project_metadata.dose", low=0, high=6, size=3),
        Sum("dose", "project_metadata.dose"),
        Average("mean", "project_metadata.dose"),
    )
    found = reader.page(search.index, Query(facets=facets), limit=1).facets
    cycles = Counter("2026-1" if number % 4 else "2025-3" for number in range(60))
    assert found["cycles"].buckets == tuple(Bucket(value, count) for value, count in cycles.most_common())
    assert found["months"].buckets == tuple(Bucket(f"2026-{month:02}", 20) for month in (1, 2, 3))
    assert found["doses"].buckets == tuple(Bucket(Span(low, low + 2), 20) for low in (0, 2, 4))
    assert found["dose"].value == pytest.approx(sum(range(60)) / 10)
    assert found["mean"].value == pytest.approx(2.95)
    later = Query(facets=facets[:1], post_facet_filters=(MatchAny("status.state", ("failed",)),))
    page = reader.page(search.index, later)
    assert (page.total, sum(bucket.count for bucket in page.facets["cycles"].buckets)) == (6, 60)


def test_one_entry_is_read_by_its_key(search: Shown, reader: GlobusSearch) -> None:
    assert reader.entry(search.index, subject="s0007") == SCANS[7]
    assert reader.entry(search.index, subject="s0007", id="notes") is None
    assert reader.entry(search.index, subject="nothing") is None


def test_a_silence_is_asked_again_and_what_is_too_far_is_refused(search: Shown, reader: GlobusSearch) -> None:
    search.control.faults.add("POST .*/search", "drop", times=2)
    assert reader.page(search.index, Query()).total == 60
    with pytest.raises(CatalogueRefused, match="offset and limit together"):
        reader.page(search.index, Query(), offset=10_000)


@pytest.mark.parametrize(
    ("status", "code", "kind", "next_step"),
    [
        (400, "BadRequest.ValidationError", CatalogueRefused, "correct what the message names"),
        (401, "Unauthorized.Generic", ConfigError, "GLOBUS_CLIENT_SECRET"),
        (403, "Forbidden.Generic", CatalogueRefused, "a writer of the index"),
        (404, "NotFound.NoSuchIndex", CatalogueRefused, "`search.indexes`"),
        (404, "NotFound.Generic", CatalogueRefused, "correct"),
        (409, "Conflict.IncompatibleIndexStatus", CatalogueRefused, "correct"),
        (413, "RequestEntityTooLarge.Generic", CatalogueRefused, "correct"),
        (429, "TooManyRequests", ServiceUnavailable, ""),
        (500, "InternalError", ServiceUnavailable, ""),
        (503, "", ServiceUnavailable, ""),
        (504, "GatewayTimeout", ServiceUnavailable, ""),
        (404, "", ServiceUnavailable, ""),
        (403, "", ServiceUnavailable, ""),
    ],
)
def test_every_refusal_becomes_an_error_of_ours(
    status: int, code: str, kind: type[OrchestrationError], next_step: str
) -> None:
    answer = requests.Response()
    answer.status_code = status
    answer.headers["Content-Type"] = "application/json"
    answer.headers["Retry-After"] = "3"
    document = {"@datatype": "GError", "code": code, "message": "no", "status": status, "error_data": {"cause": "x"}}
    answer._content = json.dumps(document).encode()
    answer.request = requests.Request("GET", "https://search.api.globus.org/v1/index/x").prepare()
    error = globus_sdk.SearchAPIError(answer)
    found = translate(error, where="the search index x")
    assert type(found) is kind
    assert next_step in found.next_step
    assert found.where == "the search index x"
    assert missing(error) is (code == "NotFound.Generic")
    if isinstance(found, ServiceUnavailable) and code:
        assert found.retry_after == 3.0
    elif isinstance(found, CatalogueRefused):
        assert found.what == 'no: {"cause": "x"}'
