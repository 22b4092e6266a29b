"""Answers hold every key of the documents recorded from the real service, with the same JSON type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from compute_ground import Ground, compute_client, eventually
from globus_compute_sdk import Client
from globus_sdk import ComputeClientV2, ComputeClientV3
from globus_sdk.testing import RegisteredResponse, get_response_set

OPTIONAL = {"description", "display_name", "subscription_uuid", "min_endpoint_version"}
"""Null or not, as the case may be; and the name that no client reads (they read `min_ep_version`)."""

METADATA = {
    "endpoint_config": "engine: {}",
    "user_config_template": "",
    "user_config_schema": {},
    "hostname": "login01",
    "local_user": "als",
    "endpoint_version": "4.19.0",
    "sdk_version": "4.19.0",
}


def add(a: int, b: int) -> int:
    return a + b


def recorded(method: Callable[..., object], case: str = "default") -> object:
    found = get_response_set(method).lookup(case)
    assert isinstance(found, RegisteredResponse)
    return found.json


def assert_same_shape(ours: object, theirs: object, where: str = "") -> None:
    if isinstance(theirs, Mapping):
        assert isinstance(ours, Mapping), where
        for key, value in theirs.items():
            if key not in OPTIONAL:
                assert key in ours, f"{where}.{key} is missing"
                assert_same_shape(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        for one in ours[:1]:
            assert_same_shape(one, theirs[0] if theirs else one, f"{where}[0]")
    else:
        assert type(ours) is type(theirs), f"{where}: {ours!r} is not like {theirs!r}"


@pytest.fixture
def client(ground: Ground) -> Client:
    return compute_client(ground.url)


@pytest.fixture
def done(ground: Ground, client: Client) -> dict[str, Any]:
    """The answer to a submission of one task, which has ended, without what is keyed by identifiers."""
    batch = client.create_batch(create_websocket_queue=True)
    function = client.register_function(add, description="adds")
    batch.add(function, (1, 2))
    answer: dict[str, Any] = dict(client.batch_run(ground.compute, batch))
    task = answer["tasks"][function][0]
    eventually(lambda: not client.get_task(task)["pending"])
    return {**answer, "task": task, "function": function}


def values(document: object, *, key: str) -> object:
    """The document with the values of an object that is keyed by identifiers as a list."""
    assert isinstance(document, Mapping)
    return {**document, key: list(document[key].values())}


def test_submission_and_tasks(client: Client, done: dict[str, Any]) -> None:
    web = client._compute_web_client
    assert_same_shape(values(done, key="tasks"), values(recorded(ComputeClientV3.submit), key="tasks"))
    assert_same_shape(web.v2.get_task_group(done["task_group_id"]).data, recorded(ComputeClientV2.get_task_group))
    batch = web.v2.get_task_batch([done["task"]]).data
    assert_same_shape(values(batch, key="results"), values(recorded(ComputeClientV2.get_task_batch), key="results"))
    assert_same_shape(web.v2.get_task(done["task"]).data, recorded(ComputeClientV2.get_task))


def test_functions(client: Client, done: dict[str, Any]) -> None:
    web = client._compute_web_client
    assert_same_shape(web.v2.get_function(done["function"]).data, recorded(ComputeClientV2.get_function))
    assert_same_shape(web.v2.delete_function(done["function"]).data, recorded(ComputeClientV2.delete_function))


def test_endpoints(ground: Ground, client: Client) -> None:
    web = client._compute_web_client
    registration = {"endpoint_name": "login", "metadata": METADATA}
    answer = web.v3.register_endpoint(registration)
    endpoint = answer["endpoint_id"]
    assert_same_shape(answer.data, recorded(ComputeClientV3.register_endpoint))
    updated = web.v3.update_endpoint(endpoint, registration).data
    assert_same_shape(updated, recorded(ComputeClientV3.update_endpoint))
    assert_same_shape(web.v2.get_endpoint(endpoint).data, recorded(ComputeClientV2.get_endpoint))
    assert_same_shape(web.v2.get_endpoints().data, recorded(ComputeClientV2.get_endpoints))
    assert_same_shape(web.v2.get_endpoint_status(ground.compute).data, recorded(ComputeClientV2.get_endpoint_status))
    allowed = web.v3.get_endpoint_allowlist(endpoint).data
    assert_same_shape(allowed, recorded(ComputeClientV3.get_endpoint_allowlist))
    assert_same_shape(web.v3.lock_endpoint(endpoint).data, recorded(ComputeClientV3.lock_endpoint))
    assert_same_shape(web.v2.delete_endpoint(endpoint).data, recorded(ComputeClientV2.delete_endpoint))


def test_the_service_itself(client: Client) -> None:
    web = client._compute_web_client.v2
    assert_same_shape(web.get_version().data, recorded(ComputeClientV2.get_version))
    assert_same_shape(web.get_version(service="all").data, recorded(ComputeClientV2.get_version, "all"))
    assert_same_shape(web.get_result_amqp_url().data, recorded(ComputeClientV2.get_result_amqp_url))
