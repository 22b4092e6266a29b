"""A catalogue to talk to, and records to give it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from scicat_world import connect, small_record, small_request

from orchestration.config import ScicatSettings
from orchestration.sandbox.testing import RunningFacility, running_facility
from orchestration.scicat import IngestRequest, RawDataset, ScicatClient, ScicatIngest


@pytest.fixture
def record() -> RawDataset:
    return small_record()


@pytest.fixture
def request_() -> IngestRequest:
    return small_request()


@pytest.fixture(scope="session")
def shared_facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    with running_facility(tmp_path_factory.mktemp("facility")) as facility:
        yield facility


@pytest.fixture
def facility(shared_facility: RunningFacility) -> RunningFacility:
    shared_facility.client.faults.clear()
    shared_facility.client.reset()
    return shared_facility


@pytest.fixture
def settings(facility: RunningFacility) -> ScicatSettings:
    return ScicatSettings(
        api_url=facility.environment()["SCICAT_API_URL"],
        ui_url="https://scicat.example.org",
        pid_prefix="20.500.12345",
        service_group=facility.environment()["SCICAT_INGEST_USER"],
    )


@pytest.fixture
def client(facility: RunningFacility, settings: ScicatSettings) -> Iterator[ScicatClient]:
    with connect(facility, settings) as client:
        yield client


@pytest.fixture
def admin(facility: RunningFacility, settings: ScicatSettings) -> Iterator[ScicatClient]:
    account = next(one for one in facility.settings.accounts if "admin" in one.rights)
    with ScicatClient(settings.require_api_url(), lambda: (account.username, SecretStr(account.password))) as client:
        yield client


@pytest.fixture
def service(client: ScicatClient, settings: ScicatSettings) -> ScicatIngest:
    return ScicatIngest(client, settings)


@pytest.fixture
def admin_service(admin: ScicatClient, settings: ScicatSettings) -> ScicatIngest:
    """Of an account that may also change and delete."""
    return ScicatIngest(admin, settings.model_copy(update={"service_group": "admin"}))
