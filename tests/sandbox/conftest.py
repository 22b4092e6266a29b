from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from sandbox_lab import DESTINATION, SOURCE, Lab, transfer_client
from scicat_lab import Person, log_in, with_people

from orchestration.sandbox.settings import INGEST_PASSWORD, INGEST_USER, Settings
from orchestration.sandbox.testing import RunningFacility, running_facility


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    state = tmp_path_factory.mktemp("facility")
    settings = with_people(Settings(state=state, retry=0.05))
    with running_facility(state, (SOURCE, DESTINATION), settings=settings) as facility:
        yield facility


@pytest.fixture
def facility(running: RunningFacility) -> RunningFacility:
    """As good as new."""
    running.client.reset()
    for name in (SOURCE, DESTINATION):
        shutil.rmtree(running.root(name))
        running.root(name).mkdir()
    return running


@pytest.fixture
def lab(facility: RunningFacility) -> Iterator[Lab]:
    with transfer_client(facility) as client:
        yield Lab(facility, client)


@pytest.fixture
def ingestor(facility: RunningFacility) -> Iterator[Person]:
    with log_in(facility, INGEST_USER, INGEST_PASSWORD) as person:
        yield person


@pytest.fixture
def ada(facility: RunningFacility) -> Iterator[Person]:
    """A member of the group that owns the datasets of the tests."""
    with log_in(facility, "ada", "a") as person:
        yield person


@pytest.fixture
def nobody(facility: RunningFacility) -> Iterator[Person]:
    """Whose token is not valid."""
    with log_in(facility, "ada", "wrong") as person:
        yield person
