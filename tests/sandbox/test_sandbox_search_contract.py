"""Answers hold every key of the documents recorded from the real Globus Search, with the same JSON type."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from globus_sdk import SearchAPIError, SearchClient
from search_lab import BOB, GUARDED, SearchLab, entry, running_search, search_client
from test_sandbox_globus_contract import assert_same_shape, recorded

from orchestration.sandbox.search.settings import index_id

TASK = {
    "task_id": "49869cb5-4fca-4f19-bbb6-8b0a18bd1f95",
    "index_id": "6f831ac8-4c41-4812-b383-6fb04f8b9f9f",
    "state": "SUCCESS",
    "state_description": "Task succeeded",
    "creation_date": "2021-10-05T18:42:49",
    "completion_date": "2021-10-05T18:42:49",
    "message": None,
    "additional_details": None,
}
"""As globus-cli has recorded it; the SDK has recorded none of these."""

NO_INDEX = {
    "@datatype": "GError",
    "@version": "2017-09-01",
    "code": "NotFound.NoSuchIndex",
    "message": "There is no search index named",
    "request_id": "0cd6b6eee44d7b6863b0db2b07f01484",
    "status": 404,
}

NOT_VALID = NO_INDEX | {
    "code": "BadRequest.ValidationError",
    "message": "Request failed input validation.",
    "status": 400,
    "error_data": {"messages": {"json": {"ingest_data": {"visible_to": ["Missing data for required field."]}}}},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchLab]:
    with running_search(tmp_path_factory.mktemp("search")) as lab:
        lab.ingest(entry("foo-bar", {"foo": "bar"}))
        yield lab


def test_get_and_post_search(lab: SearchLab) -> None:
    assert_same_shape(lab.client.search(lab.index, "bar").data, recorded(SearchClient.search))
    assert_same_shape(lab.client.post_search(lab.index, {"q": "bar"}).data, recorded(SearchClient.post_search))


def test_index_and_list_of_indexes(lab: SearchLab) -> None:
    theirs = recorded(SearchClient.create_index)
    made = lab.client.create_index("Awesome", "so awesome").data
    assert_same_shape(made, theirs)
    assert set(made) == set(theirs)
    assert_same_shape(lab.client.get_index(made["id"]).data, theirs)
    assert_same_shape(lab.client.index_list().data, recorded(SearchClient.index_list))


def test_deletions(lab: SearchLab) -> None:
    theirs = recorded(SearchClient.batch_delete_by_subject)
    for answer in (
        lab.client.batch_delete_by_subject(lab.index, ["nothing"]),
        lab.client.delete_subject(lab.index, "nothing"),
        lab.client.delete_entry(lab.index, "nothing"),
        lab.client.delete_by_query(lab.index, {"q": "nothing"}),
    ):
        assert_same_shape(answer.data, theirs)


def test_ingest_task_and_list_of_tasks(lab: SearchLab) -> None:
    answer = lab.client.ingest(lab.index, {"ingest_type": "GMetaEntry", "ingest_data": entry("new", {})}).data
    assert (answer["acknowledged"], uuid.UUID(answer["task_id"]).version) == (True, 4)
    task = lab.ended(answer["task_id"]).data
    assert_same_shape(task, TASK)
    assert (task["state"], task["state_description"]) == (TASK["state"], TASK["state_description"])
    assert_same_shape(lab.client.get_task_list(lab.index).data, {"index_id": lab.index, "tasks": [TASK]})


def test_a_subject(lab: SearchLab) -> None:
    theirs = recorded(SearchClient.search)["gmeta"]
    assert isinstance(theirs, list)
    assert_same_shape(lab.client.get_subject(lab.index, "foo-bar").data, theirs[0])


def test_refusals(lab: SearchLab) -> None:
    with pytest.raises(SearchAPIError) as caught:
        lab.client.search(str(uuid.uuid4()), "*")
    assert_same_shape(caught.value.raw_json, NO_INDEX)
    assert caught.value.code == NO_INDEX["code"]
    broken = {"ingest_type": "GMetaEntry", "ingest_data": {"subject": "s", "content": {}}}
    with pytest.raises(SearchAPIError) as caught:
        lab.client.ingest(lab.index, broken)
    assert_same_shape(caught.value.raw_json, NOT_VALID)
    assert caught.value.error_data == NOT_VALID["error_data"]
    theirs = recorded(SearchClient.update_index, "forbidden")
    with search_client(lab.facility, BOB) as bob, pytest.raises(SearchAPIError) as caught:
        bob.delete_subject(index_id(GUARDED), "s")
    assert caught.value.code == theirs["code"]
    assert isinstance(caught.value.raw_json, dict)
    assert_same_shape(
        {name: caught.value.raw_json[name] for name in theirs if name != "error_data"},
        {name: value for name, value in theirs.items() if name != "error_data"},
    )
