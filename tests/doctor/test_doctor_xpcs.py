"""Search indexes and deployments of XPCS: what of them works, in a facility made as a sandbox makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest

from orchestration import config
from orchestration.config import GlobusApp, SearchIndex, Settings
from orchestration.doctor.check import Check, Health, Look, Shared
from orchestration.doctor.once import trials
from orchestration.doctor.search import index_check
from orchestration.doctor.xpcs import deployments_check
from orchestration.sandbox import blueprint
from orchestration.sandbox import settings as facility_settings
from orchestration.sandbox.layout import Layout
from orchestration.sandbox.search.settings import IndexSettings, SearchSettings
from orchestration.sandbox.testing import RunningFacility, running_facility

FOREIGN = "8a1d0f52-6c1e-4d0b-9f36-0d5a8e1d80ff"


@dataclass(frozen=True)
class Place:
    facility: RunningFacility
    layout: Layout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    layout = Layout.at(tmp_path_factory.mktemp("doctor") / "sandbox")
    layout.create()
    blueprint.write(layout, blueprint.project_config())
    made = facility_settings.load(layout.facility_file, state=layout.facility)
    foreign = IndexSettings(name="foreign", id=FOREIGN, owners=("urn:globus:auth:identity:somebody",))
    search = SearchSettings(indexes=(*made.search.indexes, foreign))
    with running_facility(layout.facility, made.collections, settings=replace(made, search=search)) as facility:
        yield Place(facility, layout)


@pytest.fixture
def settings(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    (tmp_path / "empty.env").touch()
    monkeypatch.setenv("BEAMLINE_ENV_FILE", str(tmp_path / "empty.env"))
    for name, value in place.facility.environment().items():
        monkeypatch.setenv(name, value)
    yield config.load(place.layout.config_file)
    place.facility.client.faults.clear()


@pytest.fixture
def index(settings: Settings) -> SearchIndex:
    return settings.search.index("xpcs")


def looked(settings: Settings, **sites: Look) -> Mapping[str, Mapping[str, Check]]:
    """By deployment, what was found; sites that are not given work."""
    every: dict[str, Look] = {name: (lambda: Check(what="site")) for name in settings.compute_sites}
    indexes = {name: Shared(lambda: index_check(settings.search.index("xpcs"), ledger=None)) for name in ("xpcs",)}
    found = deployments_check(settings, sites=every | sites, indexes=indexes, seconds=60.0)
    return {one.what: {part.what: part for part in one.parts} for one in found.parts}


def test_an_index_is_read_and_may_be_written(index: SearchIndex) -> None:
    check = index_check(index, ledger=None)
    assert (check.what, check.health, check.note) == ("index xpcs", Health.WORKS, "0 entries to be seen, may publish")


def test_a_trial_publishes_and_leaves_nothing(index: SearchIndex) -> None:
    with trials() as ledger:
        check = index_check(index, ledger=ledger)
    assert check.health is Health.WORKS, check
    assert check.note.endswith("an entry was published and withdrawn")
    assert index_check(index, ledger=None).note.startswith("0 entries")


def test_what_is_wrong_with_an_index_is_said_with_the_remedy(
    index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = index_check(index.model_copy(update={"uuid": UUID(int=7)}), ledger=None)
    assert (gone.health, "`uuid` under `search.indexes`" in gone.remedy) == (Health.BROKEN, True)
    foreign = index_check(index.model_copy(update={"uuid": UUID(FOREIGN)}), ledger=None)
    assert (foreign.health, foreign.note) == (
        Health.BROKEN,
        "this service may not publish there (the search index xpcs)",
    )
    assert "a writer of it" in foreign.remedy
    monkeypatch.delenv("GLOBUS_CLIENT_ID")
    assert index_check(index, ledger=None).health is Health.UNUSED


def test_all_that_a_deployment_needs_is_a_branch_of_it(settings: Settings) -> None:
    found = looked(settings)
    assert set(found) == {"voyager-8idi-polaris", "aps8idi-local"}
    assert list(found["aps8idi-local"]) == [
        "source aps8idi",
        "results aps8idi_results",
        "site local_xpcs",
        "index xpcs",
    ]
    assert {part.health for parts in found.values() for part in parts.values()} == {Health.WORKS}


def test_what_a_deployment_lacks_is_said_in_its_branch(settings: Settings, place: Place) -> None:
    def down() -> Check:
        broken = Check(what="status", health=Health.BROKEN, note="down for maintenance", remedy="wait")
        return Check(what="site polaris_xpcs", parts=(Check(what="sign-in"), broken))

    collection = str(settings.endpoint("aps8idi").uuid)
    place.facility.client.collections.set(collection, connected=False)
    try:
        found = looked(settings, polaris_xpcs=down)
    finally:
        place.facility.client.collections.set(collection, connected=True)
    source, site = found["voyager-8idi-polaris"]["source aps8idi"], found["voyager-8idi-polaris"]["site polaris_xpcs"]
    assert source.health is Health.BROKEN
    assert source.remedy
    assert (site.health, site.note, site.remedy) == (Health.BROKEN, "status: down for maintenance", "wait")
    assert found["aps8idi-local"]["site local_xpcs"].health is Health.WORKS


def test_a_service_account_without_credentials_cannot_be_used_yet(settings: Settings) -> None:
    mine = settings.xpcs.deployment().model_copy(update={"service_account": "aps_service"})
    globus = settings.globus.model_copy(update={"globus_apps": {"aps_service": GlobusApp()}})
    xpcs = settings.xpcs.model_copy(update={"deployments": {mine.name: mine}})
    found = looked(settings.model_copy(update={"xpcs": xpcs, "globus": globus}))
    account = found[mine.name]["service account"]
    assert (account.health, "set the variables" in account.remedy) == (Health.UNUSED, True)


def test_a_look_that_is_shared_is_taken_once() -> None:
    taken = []

    def look() -> Check:
        taken.append(1)
        return Check(what="site")

    shared = Shared(look)
    assert shared() is shared()
    assert taken == [1]
