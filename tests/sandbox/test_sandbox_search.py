"""The stand-in for Globus Search, asked by unmodified clients."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from globus_sdk import SearchAPIError
from sandbox_lab import until
from search_lab import ADA, BOB, GROUP, GUARDED, IDENTITY, TEAM, SearchLab, entry, running_search, search_client

from orchestration.sandbox.search.settings import index_id


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchLab]:
    with running_search(tmp_path_factory.mktemp("search")) as lab:
        yield lab


@pytest.fixture
def lab(running: SearchLab) -> Iterator[SearchLab]:
    """As good as new."""
    running.facility.client.reset()
    with search_client(running.facility) as client:
        yield replace(running, client=client)


def refused(error: pytest.ExceptionInfo[SearchAPIError]) -> tuple[int, str | None]:
    return error.value.http_status, error.value.code


# ----- ingest ------------------------------------------------------------------------------------------------------


def test_what_is_ingested_is_there_once_its_task_has_ended(lab: SearchLab) -> None:
    lab.facility.client.search.hold(lab.index)
    body = {"ingest_type": "GMetaEntry", "ingest_data": entry("scan 1", {"energy": 8.0}, id="metadata")}
    task = lab.client.ingest(lab.index, body)["task_id"]
    assert lab.client.get_task(task)["state"] == "PENDING"
    assert lab.found() == []
    lab.facility.client.search.hold(lab.index, held=False)
    assert lab.ended(task)["state"] == "SUCCESS"
    (found,) = lab.client.get_subject(lab.index, "scan 1")["entries"]
    assert (found["entry_id"], found["content"]) == ("metadata", {"energy": 8.0})
    (same,) = lab.client.get_entry(lab.index, "scan 1", entry_id="metadata")["entries"]
    assert same == found


def test_subject_and_id_are_the_key_and_ingesting_again_replaces(lab: SearchLab) -> None:
    lab.ingest(entry("s", {"a": 1}, id="one"), entry("s", {"a": 2}, id="two"), entry("s", {"a": 3}))
    lab.ingest(entry("s", {"a": 4, "b": True}, id="one"))
    found = {row["entry_id"]: row["content"] for row in lab.client.get_subject(lab.index, "s")["entries"]}
    assert found == {"one": {"a": 4, "b": True}, "two": {"a": 2}, None: {"a": 3}}
    assert (lab.client.get_index(lab.index)["num_entries"], lab.search()["total"]) == (3, 1)


@pytest.mark.parametrize(
    ("first", "then", "taken"),
    [
        (1, 2, True),
        (1, 2.5, False),
        (1.5, 2, True),
        (1, "two", False),
        ("one", 2, True),
        ("one", True, True),
        (True, False, True),
        (True, "yes", False),
        ("2026-01-01", "2026-01-01T00:00:00Z", True),
        ("2026-01-01", "some day", False),
        ("some day", "2026-01-01", True),
        ({"x": 1}, 1, False),
        (1, {"x": 1}, False),
        (1, [2, None, 3], True),
        (None, 1, True),
    ],
)
def test_a_field_keeps_the_type_it_was_first_given(lab: SearchLab, first: Any, then: Any, *, taken: bool) -> None:
    assert lab.ingest(entry("first", {"field": first}))["state"] == "SUCCESS"
    task = lab.ingest(entry("then", {"field": then}), entry("other", {"free": 1}))
    assert task["state"] == ("SUCCESS" if taken else "FAILED")
    assert lab.found(sort=[{"field_name": "free", "order": "asc"}])[0] == "other", "the others are indexed"
    assert ("then" in lab.found()) is taken
    if not taken:
        assert "[field]" in str(task["additional_details"])


def test_what_is_too_large_is_refused(lab: SearchLab) -> None:
    with pytest.raises(SearchAPIError) as caught:
        lab.ingest(entry("big", {"text": ["x" * 1000] * 10_001}))
    assert refused(caught) == (413, "RequestEntityTooLarge.Generic")
    assert lab.ingest(entry("long", {"text": "x" * 40_000}))["state"] == "FAILED"
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"deep": deep}
    assert lab.ingest(entry("deep", deep))["state"] == "FAILED"
    assert lab.ingest(*(entry("many", {"a": 1}, id=str(number)) for number in range(11)))["state"] == "FAILED"
    assert lab.ingest(entry("wide", {f"field{number}": 1 for number in range(1001)}))["state"] == "FAILED"


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": ""},
        {"subject": "s" * 501},
        {"visible_to": []},
        {"visible_to": ["public"] * 101},
        {"content": 1},
        {"id": 1},
    ],
)
def test_what_is_no_entry_is_refused_at_once(lab: SearchLab, wrong: dict[str, Any]) -> None:
    with pytest.raises(SearchAPIError) as caught:
        lab.ingest(entry("s", {}) | wrong)
    assert refused(caught) == (400, "BadRequest.ValidationError")
    assert next(iter(wrong)) in str(caught.value.error_data)


def test_what_was_ingested_and_what_was_asked_for_outlive_a_restart(tmp_path: Path) -> None:
    with running_search(tmp_path) as lab:
        lab.ingest(entry("done", {"a": 1}))
        lab.facility.client.search.hold(lab.index)
        body = {"ingest_type": "GMetaEntry", "ingest_data": entry("waiting", {"a": 2})}
        task = lab.client.ingest(lab.index, body)["task_id"]
        made = lab.client.create_index("mine", "made by a client")["id"]
    with running_search(tmp_path) as lab:
        assert lab.ended(task)["state"] == "SUCCESS"
        assert sorted(lab.found()) == ["done", "waiting"]
        assert lab.client.get_index(made)["description"] == "made by a client"
        assert lab.ingest(entry("wrong", {"a": "text"}))["state"] == "FAILED"
        assert [effect.key for effect in lab.facility.client.effects("indexed")] == ["done", "waiting"]


# ----- deletion ----------------------------------------------------------------------------------------------------


def test_entries_and_subjects_are_deleted_by_tasks(lab: SearchLab) -> None:
    lab.ingest(*(entry(f"s{number}", {"n": number}, id=id_) for number in range(6) for id_ in ("a", "b")))
    assert lab.ended(lab.client.delete_entry(lab.index, "s0", entry_id="a")["task_id"])["state"] == "SUCCESS"
    assert [row["entry_id"] for row in lab.client.get_subject(lab.index, "s0")["entries"]] == ["b"]
    lab.ended(lab.client.delete_subject(lab.index, "s1")["task_id"])
    lab.ended(lab.client.batch_delete_by_subject(lab.index, ["s2", "s3"])["task_id"])
    filters = [{"type": "range", "field_name": "n", "values": [{"from": 5, "to": "*"}]}]
    lab.ended(lab.client.delete_by_query(lab.index, {"filters": filters})["task_id"])
    assert lab.found() == ["s0", "s4"]
    assert lab.ended(lab.client.delete_entry(lab.index, "never there")["task_id"])["state"] == "SUCCESS"
    for ask in (lab.client.get_subject, lab.client.get_entry):
        with pytest.raises(SearchAPIError) as caught:
            ask(lab.index, "s1")
        assert refused(caught) == (404, "NotFound.Generic")


# ----- who may -----------------------------------------------------------------------------------------------------


def test_everybody_sees_what_is_visible_to_them(lab: SearchLab) -> None:
    rights = {
        "open": "public",
        "members": "all_authenticated_users",
        "ada's": f"{IDENTITY}{ADA}",
        "team's": f"{GROUP}{TEAM}",
        "bob's": f"{IDENTITY}{BOB}",
    }
    lab.ingest(*(entry(subject, {"a": 1}, visible_to=(who,)) for subject, who in rights.items()))

    def seen(who: str) -> list[str]:
        with search_client(lab.facility, who) as client:
            facet = {"name": "n", "field_name": "a", "type": "terms"}
            answer = client.post_search(lab.index, {"q": "*", "facets": [facet]})
            scrolled = client.scroll(lab.index, {"q": "*"})
            found = [result["subject"] for result in answer["gmeta"]]
            assert sorted(found) == [result["subject"] for result in scrolled["gmeta"]]
            assert answer["facet_results"][0]["buckets"][0]["count"] == len(found), "counted as little as shown"
            return found

    assert seen("") == ["open"]
    assert seen(ADA) == ["open", "members", "ada's", "team's"]
    assert seen(BOB) == ["open", "members", "bob's"]
    with search_client(lab.facility, BOB) as bob, pytest.raises(SearchAPIError) as caught:
        bob.get_subject(lab.index, "ada's")
    assert refused(caught) == (404, "NotFound.Generic")
    bypass = {"q": "*", "bypass_visible_to": True}
    assert lab.client.post_search(lab.index, bypass)["total"] == 5, "the index has no owner, so everybody is"
    with pytest.raises(SearchAPIError) as caught:
        lab.client.post_search(index_id(GUARDED), bypass)
    assert refused(caught) == (403, "Forbidden.Generic")


def test_only_writers_write(lab: SearchLab) -> None:
    guarded = index_id(GUARDED)
    assert lab.ingest(entry("s", {}), index=guarded)["state"] == "SUCCESS"
    body = {"ingest_type": "GMetaEntry", "ingest_data": entry("t", {})}
    for client, index in [
        (search_client(lab.facility, BOB), guarded),
        (search_client(lab.facility, scope="search"), lab.index),
    ]:
        with client, pytest.raises(SearchAPIError) as caught:
            client.ingest(index, body)
        assert refused(caught) == (403, "Forbidden.Generic")
    with search_client(lab.facility, "") as nobody, pytest.raises(SearchAPIError) as caught:
        nobody.ingest(lab.index, body)
    assert refused(caught)[0] == 401


def test_a_token_that_is_not_valid_any_more_is_renewed_by_the_client(lab: SearchLab) -> None:
    lab.ingest(entry("s", {}))
    lab.facility.client.expire_tokens()
    lab.client.retry_config.max_retries = 1
    assert lab.found() == ["s"]


# ----- queries -----------------------------------------------------------------------------------------------------

DOCUMENTS: dict[str, dict[str, Any]] = {
    "glass": {
        "title": "Ageing of a metallic glass",
        "n": 3,
        "tags": ["xpcs", "glass"],
        "taken": "2026-01-31T23:30:00Z",
    },
    "gel": {"title": "A gel under shear", "n": 10, "tags": ["xpcs"], "taken": "2026-02-01", "beam": {"energy": 8.0}},
    "ink": {"title": "Glass-like ink", "n": 7, "tags": [], "taken": "2025-12-31", "beam": {"energy": 9.5}},
}


@pytest.fixture
def filled(lab: SearchLab) -> SearchLab:
    lab.ingest(*(entry(subject, content) for subject, content in DOCUMENTS.items()))
    return lab


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("*", ["glass", "gel", "ink"]),
        ("GLASS", ["glass", "ink"]),
        ("metallic glass", ["glass", "ink"]),
        ('"gel under"', ["gel"]),
        ('"under gel"', []),
        ("met*", ["glass"]),
        ("nothing", []),
    ],
)
def test_words_are_looked_for_in_all_fields(filled: SearchLab, words: str, found: list[str]) -> None:
    assert filled.found(q=words) == found
    assert [one["subject"] for one in filled.client.search(filled.index, words)["gmeta"]] == found


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        ({"type": "match_any", "field_name": "tags", "values": ["glass", "ink"]}, {"glass"}),
        ({"type": "match_all", "field_name": "tags", "values": ["glass", "xpcs"]}, {"glass"}),
        ({"type": "match_any", "field_name": "n", "values": [10, 3]}, {"glass", "gel"}),
        ({"type": "range", "field_name": "n", "values": [{"from": 4, "to": 10}]}, {"gel", "ink"}),
        ({"type": "range", "field_name": "n", "values": [{"gt": 3, "lt": 10}]}, {"ink"}),
        ({"type": "range", "field_name": "taken", "values": [{"from": "2026-01-01", "to": "*"}]}, {"glass", "gel"}),
        ({"type": "range", "field_name": "taken", "values": [{"to": "2026-01-31T23:30:00+00:00"}]}, {"glass", "ink"}),
        ({"type": "exists", "field_name": "beam.energy"}, {"gel", "ink"}),
        ({"type": "exists", "field_name": "tags"}, {"glass", "gel"}),
        ({"type": "like", "field_name": "title", "value": "*gl?ss"}, {"glass"}),
        ({"type": "not", "filter": {"type": "exists", "field_name": "beam"}}, {"glass", "gel", "ink"}),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "match_any", "field_name": "n", "values": [3]},
                    {"type": "match_any", "field_name": "n", "values": [7]},
                ],
            },
            {"glass", "ink"},
        ),
    ],
)
def test_filters_choose_by_the_values_of_fields(filled: SearchLab, filter_: dict[str, Any], found: set[str]) -> None:
    assert set(filled.found(filters=[filter_])) == found
    without = filled.client.post_search(filled.index, {"filters": [filter_]})
    assert {one["subject"] for one in without["gmeta"]} == found, "words are not needed beside a filter"


def test_results_are_sorted_and_paged(filled: SearchLab) -> None:
    assert filled.found(sort=[{"field_name": "n", "order": "asc"}]) == ["glass", "ink", "gel"]
    assert filled.found(sort=[{"field_name": "taken"}]) == ["gel", "glass", "ink"]
    energies = [{"field_name": "beam.energy", "order": "asc"}]
    assert filled.found(sort=energies) == ["gel", "ink", "glass"], "those without the field come last"
    page = filled.search(sort=[{"field_name": "n", "order": "asc"}], limit=2)
    assert (page["count"], page["total"], page["has_next_page"]) == (2, 3, True)
    with pytest.raises(SearchAPIError) as caught:
        filled.search(offset=9_000, limit=1_001)
    assert refused(caught) == (400, "BadRequest.ValidationError")


def test_the_paginators_of_the_client_find_everything_once(lab: SearchLab) -> None:
    lab.ingest(*(entry(f"s{number:03}", {"n": number}) for number in range(250)))
    pages = lab.client.paginated.post_search(lab.index, {"q": "*"})
    assert len({result["subject"] for result in pages.items()}) == 250
    scrolled = lab.client.paginated.scroll(lab.index, {"q": "*", "limit": 60})
    assert [result["subject"] for result in scrolled.items()] == [f"s{number:03}" for number in range(250)]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": "x", "advanced": True},
        {"q": "x", "filters": [{"type": "unheard of", "field_name": "a"}]},
        {"q": "x", "filters": [{"type": "match_any", "field_name": "a", "values": []}]},
        {"q": "x", "filters": [{"type": "geo_bounding_box", "field_name": "a"}]},
        {"q": "x", "facets": [{"field_name": "a", "type": "pie"}]},
        {"q": "x", "facets": [{"field_name": "a"}, {"field_name": "a"}]},
        {"q": "x", "limit": -1},
    ],
)
def test_what_is_no_query_is_refused(lab: SearchLab, query: dict[str, Any]) -> None:
    with pytest.raises(SearchAPIError) as caught:
        lab.client.post_search(lab.index, query)
    assert caught.value.http_status == 400


# ----- facets ------------------------------------------------------------------------------------------------------


def test_facets_are_what_a_plain_count_finds(lab: SearchLab) -> None:
    chance = random.Random(4)
    contents: list[dict[str, Any]] = [
        {
            "kind": chance.choice(["gel", "glass", "ink"]),
            "tags": chance.sample(["a", "b", "c", "d"], chance.randint(0, 3)),
            "dose": round(chance.uniform(0, 12), 2),
            "taken": f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:00:00Z",
        }
        for _ in range(200)
    ]
    lab.ingest(*(entry(f"s{number}", content) for number, content in enumerate(contents)))

    kinds = Counter(one["kind"] for one in contents)
    assert lab.facet({"name": "f", "type": "terms", "field_name": "kind"}) == kinds.most_common()
    tags = Counter(tag for one in contents for tag in one["tags"])
    assert dict(lab.facet({"name": "f", "type": "terms", "field_name": "tags"})) == tags
    top = lab.facet({"name": "f", "type": "terms", "field_name": "tags", "size": 2})
    assert [count for _, count in top] == sorted(tags.values(), reverse=True)[:2]

    for interval, length in (("year", 4), ("month", 7), ("day", 10)):
        facet = {"name": "f", "type": "date_histogram", "field_name": "taken", "date_interval": interval}
        assert lab.facet(facet) == sorted(Counter(one["taken"][:length] for one in contents).items())

    limits = {"low": 0, "high": 10}
    histogram = {"name": "f", "type": "numeric_histogram", "field_name": "dose", "size": 5, "histogram_range": limits}
    assert lab.facet(histogram) == [
        ({"from": low, "to": low + 2}, sum(low <= one["dose"] < low + 2 for one in contents)) for low in range(0, 10, 2)
    ]
    doses = [one["dose"] for one in contents]
    assert lab.facet({"name": "f", "type": "sum", "field_name": "dose"}) == pytest.approx(sum(doses))
    assert lab.facet({"name": "f", "type": "avg", "field_name": "dose"}) == pytest.approx(sum(doses) / len(doses))


def test_a_filter_counts_before_the_facets_or_only_after_them(filled: SearchLab) -> None:
    facet = {"name": "f", "type": "terms", "field_name": "tags"}
    only_gel = {"type": "match_any", "field_name": "n", "values": [10]}
    everything = [("xpcs", 2), ("glass", 1)]
    assert filled.facet(facet, filters=[only_gel]) == [("xpcs", 1)]
    assert filled.facet(facet, post_facet_filters=[only_gel]) == everything
    assert filled.found(post_facet_filters=[only_gel]) == ["gel"]

    def legacy(filter_: dict[str, Any]) -> list[tuple[str, int]]:
        """The first version of the query, where each filter says it."""
        answer = filled.client.post_search(filled.index, {"q": "*", "filters": [filter_], "facets": [facet]})
        assert [one["subject"] for one in answer["gmeta"]] == ["gel"]
        return [(row["value"], row["count"]) for row in answer["facet_results"][0]["buckets"]]

    assert legacy(only_gel) == everything
    assert legacy(only_gel | {"post_filter": False}) == [("xpcs", 1)]
    assert legacy(only_gel | {"type": "match_all"}) == [("xpcs", 1)]


# ----- faults ------------------------------------------------------------------------------------------------------


def test_a_lost_answer_is_one_ingest_and_a_refusal_none(lab: SearchLab) -> None:
    body = {"ingest_type": "GMetaEntry", "ingest_data": entry("s", {})}
    lab.facility.client.faults.add("POST /search/.*/ingest", status=429, retry_after=3)
    with pytest.raises(SearchAPIError) as caught:
        lab.client.ingest(lab.index, body)
    assert (caught.value.http_status, caught.value.headers["Retry-After"]) == (429, "3")
    assert lab.facility.client.effects("ingest") == []
    lab.facility.client.faults.add("POST /search/.*/ingest", "lost_answer")
    with pytest.raises(Exception, match=r"(?i)connection|remote"):
        lab.client.ingest(lab.index, body)
    until(lambda: lab.found() == ["s"])
    assert [effect.key for effect in lab.facility.client.effects("ingest")] == ["s"]
