from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from globus_ground import CREDENTIALS, POLICY, Ground

from orchestration.config import Endpoint
from orchestration.globus.auth import TransferClients
from orchestration.globus.transfer import GlobusTransfer
from orchestration.ledger import Ledger
from orchestration.policy import Zone
from orchestration.sandbox.settings import CollectionSettings
from orchestration.sandbox.testing import RunningFacility, running_facility


@pytest.fixture(scope="session")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    state = tmp_path_factory.mktemp("facility")
    collections = [
        CollectionSettings(name="beamline", root=state / "beamline"),
        CollectionSettings(name="computer", root=state / "computer"),
        CollectionSettings(name="personal", root=state / "personal", kind="personal"),
        CollectionSettings(name="guarded", root=state / "guarded", data_access=True),
    ]
    with running_facility(state / "state", collections) as running:
        yield running


@pytest.fixture
def ground(facility: RunningFacility, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ground]:
    for name, value in facility.environment().items():
        monkeypatch.setenv(name, value)

    def endpoint(name: str) -> Endpoint:
        found = Endpoint(uuid=UUID(facility.collection_id(name)), root_path=f"/{tmp_path.name}", zone=Zone.BEAMLINE)
        return found.known_as(name)

    yield Ground(facility, *(endpoint(name) for name in ("beamline", "computer", "personal", "guarded")))
    facility.client.faults.clear()
    for name in ("beamline", "computer", "personal", "guarded"):
        facility.client.collections.set(
            facility.collection_id(name),
            connected=True,
            writable=True,
            deny=[],
            volumes=[],
            bandwidth=0.0,
            paused=False,
            full=False,
            expired=False,
        )


@pytest.fixture
def clients(ground: Ground) -> TransferClients:
    return TransferClients(CREDENTIALS)


@pytest.fixture
def mover(clients: TransferClients) -> GlobusTransfer:
    return GlobusTransfer(clients, POLICY)


@pytest.fixture
def write(ground: Ground) -> Callable[[str, bytes], Path]:
    """Put a file at the beamline."""

    def put(name: str, content: bytes) -> Path:
        path = ground.folder(ground.beamline) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return put


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        yield ledger
