from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from nersc_ground import Ground

from orchestration.config import Credentials, NerscSite
from orchestration.sandbox.settings import CollectionSettings, Settings
from orchestration.sandbox.superfacility.settings import SuperfacilitySettings
from orchestration.sandbox.testing import RunningFacility, running_facility


@pytest.fixture(scope="session")
def nersc_facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    state = tmp_path_factory.mktemp("nersc")
    collections = [CollectionSettings(name="pscratch", root=state / "pscratch")]
    settings = Settings(state=state, retry=0.05, superfacility=SuperfacilitySettings(slots=16, grace=1.5))
    with running_facility(state / "state", collections, settings=settings) as running:
        yield running


@pytest.fixture
def ground(nersc_facility: RunningFacility) -> Iterator[Ground]:
    yield ground_of(nersc_facility)
    client = nersc_facility.client
    client.faults.clear()
    client.reset()


def ground_of(facility: RunningFacility) -> Ground:
    words = facility.nersc_environment()
    folder = facility.root("pscratch") / uuid4().hex
    folder.mkdir(parents=True)
    site = NerscSite.model_validate(
        {
            "kind": "nersc",
            "raw_endpoint": "raw",
            "scratch_endpoint": "scratch",
            "job_folder": str(folder / "jobs"),
            "python": sys.executable,
            "queue": "realtime",
            "account": "als",
            "constraint": "cpu",
            "api_url": words["SFAPI_API_URL"],
            "token_url": words["SFAPI_TOKEN_URL"],
        }
    ).known_as("perlmutter")
    credentials = Credentials(
        path_nersc_client_id=Path(words["PATH_NERSC_CLIENT_ID"]), path_nersc_pri_key=Path(words["PATH_NERSC_PRI_KEY"])
    )
    return Ground(facility, site, credentials, folder)
