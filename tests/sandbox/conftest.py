from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_lab import Lab, running_lab
from scicat_lab import Person, log_in, with_people

from orchestration.sandbox.settings import INGEST_PASSWORD, INGEST_USER, Settings
from orchestration.sandbox.testing import RunningFacility, running_facility


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with running_lab(tmp_path / "state") as lab:
        yield lab


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[RunningFacility]:
    state = tmp_path / "state"
    with running_facility(state, [], settings=with_people(Settings(state=state))) as facility:
        yield facility


@pytest.fixture
def ingestor(catalogue: RunningFacility) -> Iterator[Person]:
    with log_in(catalogue, INGEST_USER, INGEST_PASSWORD) as person:
        yield person


@pytest.fixture
def ada(catalogue: RunningFacility) -> Iterator[Person]:
    """A member of the group that owns the datasets of the tests."""
    with log_in(catalogue, "ada", "a") as person:
        yield person


@pytest.fixture
def nobody(catalogue: RunningFacility) -> Iterator[Person]:
    """Whose token is not valid."""
    with log_in(catalogue, "ada", "wrong") as person:
        yield person
