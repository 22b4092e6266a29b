"""Registering a flow with Globus Flows, once; and whether the action providers would take what it asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import globus_sdk
import pytest
from globus_ground import CREDENTIALS, Ground

from orchestration.globus.flows import Effect, FlowDefinition, GlobusFlows, reconstruction_flow
from orchestration.sandbox.globus.flows import PAGE

TITLE = "Tomographic reconstruction"
WANTED = reconstruction_flow(name=TITLE, step="reconstruct it")


@pytest.fixture
def flows(ground: Ground) -> Iterator[GlobusFlows]:
    found = GlobusFlows(CREDENTIALS)
    yield found
    for flow in list(found._connected().paginated.list_flows().items()):
        found._connected().delete_flow(flow["id"])


def test_a_flow_is_found_again_among_many_that_are_called_much_alike(flows: GlobusFlows) -> None:
    for number in range(PAGE + 2):
        flows.publish(replace(WANTED, title=f"{TITLE} {number}"))
    made = flows.publish(WANTED)
    assert made.effect is Effect.CREATED
    again = GlobusFlows(CREDENTIALS).publish(replace(WANTED, subtitle="another"))
    assert (again.id, again.effect) == (made.id, Effect.UPDATED)


@pytest.mark.parametrize(
    ("state", "wrong", "said"),
    [
        ("Compute", {"endpoint.$": "$.input.compute_endpoint_id", "tasks": []}, "endpoint_id required"),
        ("Compute", {"endpoint_id.$": "$.x", "tasks": [], "endpoint.$": "$.x"}, "endpoint not permitted"),
        ("TransferToFacility", {"source_endpoint_id.$": "$.x"}, "DATA, destination_endpoint, source_endpoint required"),
        ("TransferToFacility", {"sync_level": "checksum"}, "sync_level must be a whole number, not 'checksum'"),
    ],
)
def test_the_sandbox_refuses_what_the_action_providers_would(
    flows: GlobusFlows, state: str, wrong: dict[str, object], said: str
) -> None:
    definition = _with(WANTED, state, wrong)
    with pytest.raises(globus_sdk.FlowsAPIError, match=said):
        flows._connected().create_flow(TITLE, definition, {})


def _with(flow: FlowDefinition, state: str, parameters: dict[str, object]) -> dict[str, object]:
    states = flow.definition["States"]
    assert isinstance(states, dict)
    changed = states[state]
    assert isinstance(changed, dict)
    before = changed["Parameters"]
    assert isinstance(before, dict)
    kept = before if "sync_level" in parameters else {}
    return {**flow.definition, "States": {**states, state: {**changed, "Parameters": {**kept, **parameters}}}}
