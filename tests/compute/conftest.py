from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_ground import Ground

from orchestration.sandbox.settings import Settings
from orchestration.sandbox.testing import RunningFacility, running_facility


@pytest.fixture(scope="session")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    state = tmp_path_factory.mktemp("facility")
    with running_facility(state, [], settings=Settings(state=state)) as running:
        yield running


@pytest.fixture
def ground(facility: RunningFacility, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ground]:
    for name, value in facility.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "globus_compute"))
    yield Ground(facility)
    facility.client.faults.clear()
    for endpoint in (Ground.compute, Ground.login):
        facility.client.compute.switch(endpoint, online=True, held=False)
    for task in facility.client.compute.tasks():
        if task["stage"] == "running":
            facility.client.compute.kill(str(task["id"]))
