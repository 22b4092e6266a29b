"""Requests come back from the ledger as they went in."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from orchestration.config import Endpoint
from orchestration.errors import InvalidInput
from orchestration.flows.runs import RunRequest
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.transfers import DeleteRequest, RenameRequest, TransferRequest, shown

SHARED = UUID("44ae904c-ab64-4145-a8f0-7287de38324d")
ENDPOINTS = [
    Endpoint(name="server", uuid=SHARED, root_path="/data"),
    Endpoint(name="raw", uuid=SHARED, root_path="/data/raw"),
    Endpoint(name="here", root_path="/"),
]


def stored(document: Document) -> Document:
    found: Document = json.loads(json.dumps(document))
    return found


def test_a_run_comes_back() -> None:
    request = RunRequest(
        deployment="a/b",
        parameters={"x": [1, None, {"y": "z"}]},
        scheduled_time=datetime(2026, 11, 21, 4, 30, tzinfo=UTC),
        flow_run_name="for people",
    )
    again = RunRequest.parse(stored(request.document()))
    assert again.document() == request.document()
    assert again.scheduled_time == request.scheduled_time


def test_a_transfer_comes_back_between_the_nearest_endpoints() -> None:
    paths = {RelativePath("raw/p/it's $(x).h5"): RelativePath("p/a.h5"), RelativePath("raw/q"): RelativePath("q")}
    request = TransferRequest.of(paths, source=ENDPOINTS[0], destination=ENDPOINTS[2], label="for people")

    again = TransferRequest.parse(stored(request.document()), ENDPOINTS)

    assert again.document() == request.document()
    assert (again.source.name, again.destination.name) == ("raw", "here")


def test_a_deletion_comes_back() -> None:
    request = DeleteRequest(endpoint=ENDPOINTS[1], paths=(RelativePath("p/a.h5"),), ignore_missing=True)
    again = DeleteRequest.parse(stored(request.document()), ENDPOINTS)
    assert again == DeleteRequest(endpoint=ENDPOINTS[1], paths=request.paths, ignore_missing=True)
    assert "seen" not in request.document()  # as requests were written before there was that
    proved = replace(request, seen=(shown(None),))
    assert DeleteRequest.parse(stored(proved.document()), ENDPOINTS) == proved


@pytest.mark.parametrize("seen", ["", shown(None)])
def test_a_new_name_comes_back(seen: str) -> None:
    aside = RelativePath(".aside/a.h5")
    request = RenameRequest(endpoint=ENDPOINTS[1], path=RelativePath("p/a.h5"), to=aside, to_is_ours=True, seen=seen)
    assert RenameRequest.parse(stored(request.document()), ENDPOINTS) == request
    assert ("seen" in request.document()) == bool(seen)


def test_an_endpoint_that_is_gone_is_named_with_a_remedy() -> None:
    request = TransferRequest.of(RelativePath("a"), source=ENDPOINTS[0], destination=ENDPOINTS[2])
    with pytest.raises(InvalidInput, match=r"no endpoint of the settings has /data/a.*put the endpoint back"):
        TransferRequest.parse(request.document(), ENDPOINTS[2:])


def test_what_is_no_request_is_refused() -> None:
    for parse in (
        RunRequest.parse,
        lambda document: TransferRequest.parse(document, ENDPOINTS),
        lambda document: DeleteRequest.parse(document, ENDPOINTS),
    ):
        with pytest.raises(InvalidInput, match="not the document of"):
            parse({"items": 3})
