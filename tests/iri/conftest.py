from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from iri_contract import FOLDER, Contract, document
from iri_ground import VERSIONS, Ground, http

from orchestration.sandbox.iri.settings import TOKEN, IriSettings
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.testing import RunningFacility, running_facility


@pytest.fixture(scope="session")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    state = tmp_path_factory.mktemp("facility")
    iri = IriSettings(roots=(tmp_path_factory.getbasetemp(),), grace=0.5)
    with running_facility(state, settings=replace(Settings(state=state), iri=iri)) as running:
        yield running


@pytest.fixture
def ground(
    facility: RunningFacility, contracts: dict[int, Contract], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Ground]:
    monkeypatch.setenv("IRI_API_TOKEN", TOKEN)
    (tmp_path / "jobs").mkdir()
    found = Ground(facility, tmp_path, contracts)
    yield found
    found.close()
    facility.client.faults.clear()
    if not found.steered and not found.used:
        return
    facility.client.iri.turn(
        unseen_polls=0,
        submit_delay=0.0,
        task_delay=0.0,
        idempotent=True,
        filters=True,
        heeds_filters=True,
        job_names=True,
        node_hours=None,
        own_node_hours=None,
        token="",
        idempotency_seconds=None,
    )
    facility.client.iri.hold(held=False)
    facility.client.iri.all_up()
    for row in found.alive():
        facility.client.iri.end(str(row["id"]), "CANCELLED")


@pytest.fixture(params=VERSIONS, ids=lambda number: f"v{number}")
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture(scope="session")
def contracts() -> dict[int, Contract]:
    """Those that lie beside the project: all, or none, and then the tests that are for them are skipped."""
    found = {number: document(number) for number in VERSIONS}
    known = {number: Contract(number, words) for number, words in found.items() if words is not None}
    if known and known.keys() != set(VERSIONS):
        pytest.fail(f"not all descriptions of the IRI API are in {FOLDER}: put them there")
    return known


@pytest.fixture
def contract(contracts: dict[int, Contract], version: int) -> Contract:
    if version not in contracts:
        pytest.skip(f"the descriptions of the IRI API are not in {FOLDER}: no traffic is held to them")
    return contracts[version]


@pytest.fixture
def api(ground: Ground, version: int, contracts: dict[int, Contract]) -> Iterator[httpx.Client]:
    """The API of one version; every answer is held to its description, where there is one."""

    def check(response: httpx.Response) -> None:
        if version in contracts:
            contracts[version].check(response.request, response)

    with http(ground.facility, version, event_hooks={"response": [check]}) as client:
        yield client
