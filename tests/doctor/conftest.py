"""A facility with compute sites of each kind, and the settings that lead there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestration.config import Settings
from orchestration.sandbox.iri.settings import COMPUTE, IriSettings
from orchestration.sandbox.settings import CollectionSettings
from orchestration.sandbox.settings import Settings as FacilitySettings
from orchestration.sandbox.testing import RunningFacility, running_facility


@pytest.fixture(scope="session")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    state = tmp_path_factory.mktemp("facility")
    collections = [CollectionSettings(name="scratch", root=state / "scratch")]
    made = replace(FacilitySettings(state=state), iri=IriSettings(roots=(tmp_path_factory.getbasetemp(),)))
    with running_facility(state, collections, settings=made) as running:
        yield running


@pytest.fixture
def settings(facility: RunningFacility, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    """The folder of its jobs is below the collection, and of one test only."""
    words = facility.environment() | facility.nersc_environment()
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "empty.env").touch()
    monkeypatch.setenv("BEAMLINE_ENV_FILE", str(tmp_path / "empty.env"))
    common = {"raw_endpoint": "scratch", "scratch_endpoint": "scratch", "python": sys.executable, "account": "als"}
    endpoints = {
        "compute": words["GLOBUS_COMPUTE_ENDPOINT"],
        "non_compute": words["GLOBUS_COMPUTE_LOGIN_ENDPOINT"],
    }
    iri = {"kind": "iri", "api_url": words["IRI_API_URL"], "resource": COMPUTE}
    sites: dict[str, dict[str, Any]] = {
        "alcf": {"kind": "globus_compute", "service_url": words["GLOBUS_COMPUTE_SERVICE_URL"], "endpoints": endpoints},
        "nersc": {"kind": "nersc", "api_url": words["SFAPI_API_URL"], "token_url": words["SFAPI_TOKEN_URL"]},
        "iri1": {**iri, "version": 1},
        "iri2": {**iri, "version": 2},
    }
    sites["nersc"] |= {"queue": "realtime", "constraint": "cpu"}
    folder = facility.root("scratch") / tmp_path.name
    folder.mkdir()
    found = {name: {**common, **site, "job_folder": str(folder)} for name, site in sites.items()}
    scratch = {"uuid": facility.collection_id("scratch"), "root_path": "/data"}
    (facility.root("scratch") / "data").mkdir(exist_ok=True)
    yield Settings.model_validate({"globus": {"globus_endpoints": {"scratch": scratch}}, "compute_sites": found})
    facility.client.faults.clear()
    for endpoint in endpoints.values():
        facility.client.compute.switch(endpoint, online=True, held=False)
