from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from superfacility_lab import COLLECTION, Lab, opened, sign_in

from orchestration.sandbox.settings import Settings
from orchestration.sandbox.superfacility.settings import SuperfacilitySettings
from orchestration.sandbox.testing import RunningFacility, running_facility


@pytest.fixture(scope="session")
def superfacility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    state = tmp_path_factory.mktemp("superfacility")
    own = SuperfacilitySettings(slots=2, grace=0.3, images=("ghcr.io/als/*",), file_limit=64 * 1024)
    with running_facility(state, (COLLECTION,), settings=Settings(state=state, superfacility=own)) as facility:
        yield facility
        facility.client.reset()


@pytest.fixture(scope="session")
def open_lab(superfacility: RunningFacility) -> Iterator[Lab]:
    with opened(superfacility) as found:
        yield found


@pytest.fixture
def lab(superfacility: RunningFacility, open_lab: Lab) -> Lab:
    """As good as new."""
    superfacility.client.reset()
    for directory in (superfacility.root(COLLECTION), superfacility.settings.state / "superfacility" / "home"):
        shutil.rmtree(directory, ignore_errors=True)
    sign_in(open_lab)
    return open_lab
