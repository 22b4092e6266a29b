"""The settings that a sandbox makes of the project's own: all of 8-ID-I is there, and led into one directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestration import config
from orchestration.config import LocalSite, Settings
from orchestration.globus.auth import TransferClients
from orchestration.globus.files import GlobusFiles
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_queries import Query
from orchestration.globus.search_reader import GlobusSearch
from orchestration.paths import RelativePath
from orchestration.sandbox import blueprint
from orchestration.sandbox import settings as facility_settings
from orchestration.sandbox.layout import Layout
from orchestration.sandbox.testing import running_facility

ENDPOINTS = (
    "aps8idi",
    "aps8idi_results",
    "aps8idi_portal",
    "polaris_xpcs_raw",
    "polaris_xpcs_scratch",
    "local8idi_raw",
    "local8idi_scratch",
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout.at(tmp_path / "sandbox")
    found.create()
    blueprint.write(found, blueprint.project_config())
    return found


def endpoints(settings: Settings, *, mounted: bool) -> list[config.Endpoint]:
    found = [settings.endpoint(name) for name in ENDPOINTS]
    return [one for one in found if (one.mount is not None) is mounted]


def test_a_request_that_names_no_deployment_is_correlated_on_this_machine(layout: Layout) -> None:
    settings = config.load(layout.config_file)
    deployment = settings.xpcs.deployment()
    assert isinstance(settings.site(deployment.site), LocalSite)
    assert [note for note in config.notes(settings) if "xpcs" in note or "8idi" in note] == []
    for endpoint in endpoints(settings, mounted=True):
        assert endpoint.mount is not None
        assert endpoint.mount.is_dir()
        assert endpoint.mount.is_relative_to(layout.endpoints)


def test_the_facility_serves_its_collections_and_its_index(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    made = facility_settings.load(layout.facility_file, state=layout.facility)
    settings = config.load(layout.config_file)
    portal = settings.endpoint("aps8idi_portal")
    assert portal.mount is not None
    (portal.mount / "published").mkdir()
    (portal.mount / "published/g2.png").write_bytes(b"a picture")
    with running_facility(layout.facility, made.collections, settings=made) as facility:
        for name, value in facility.environment().items():
            monkeypatch.setenv(name, value)
        files = GlobusFiles(TransferClients(config.credentials()))
        served = [one for one in map(settings.endpoint, ENDPOINTS) if one.uuid is not None]
        assert len(served) == 5
        assert all(files.entry(one, one.root_path) is not None for one in served)
        found = files.inspect(portal, RelativePath("published/g2.png"))
        assert found is not None
        assert found.size == 9
        index = settings.search.index(settings.xpcs.deployment().index or "")
        assert index.endpoint == portal.name
        assert GlobusSearch(SearchClients(config.credentials())).page(index, Query()).total == 0


def test_a_project_without_xpcs_gets_none(tmp_path: Path) -> None:
    document = yaml.safe_load(blueprint.project_config().read_text())
    del document["xpcs"]
    (tmp_path / "config.yml").write_text(yaml.safe_dump(document))
    layout = Layout.at(tmp_path / "sandbox")
    layout.create()
    blueprint.write(layout, tmp_path / "config.yml")
    assert config.load(layout.config_file).xpcs.deployments == {}
