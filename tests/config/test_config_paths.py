"""Endpoints and beamlines: paths that stay where they belong."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.config import Beamline, Endpoint
from orchestration.errors import ConfigError, InvalidPath
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone

COLLECTION = UUID("1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a1")
NAMES = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/"), min_size=1, max_size=40)
PATHS = st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=5).map("/".join)


def beamline() -> Beamline:
    return Beamline(id="bl832", acquisition="a", server="s", raw="r", scratch="x", path_prefixes=("/global",))


@settings(deadline=None)
@given(text=PATHS, root=st.sampled_from(["/", "/data", "/data/raw/"]))
def test_a_full_path_leads_back_to_the_relative_one(text: str, root: str) -> None:
    endpoint = Endpoint(name="e", uuid=COLLECTION, root_path=root)
    relative = RelativePath(text)
    full = endpoint.full_path(relative)
    assert full.startswith("/")
    assert "//" not in full
    assert endpoint.relative(full) == relative


@pytest.mark.parametrize(
    "path", ["/data", "/datafile/x", "/other/x", "data/x", "/data/../etc/passwd", "", "/data/a\nb"]
)
def test_a_full_path_outside_the_root_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        Endpoint(name="e", uuid=COLLECTION, root_path="/data").relative(path)


def test_the_local_path_is_below_the_mount(tmp_path: Path) -> None:
    endpoint = Endpoint(name="e", mount=tmp_path)
    assert endpoint.local_path(RelativePath("a b/-rf $(x).h5")) == tmp_path.resolve() / "a b/-rf $(x).h5"


def test_a_link_inside_the_mount_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = Endpoint(name="e", mount=tmp_path).local_path(RelativePath("link/f.h5"))
    assert found == tmp_path.resolve() / "real/f.h5"


def test_a_link_that_leads_outside_the_mount_is_refused(tmp_path: Path) -> None:
    mount, outside = tmp_path / "mount", tmp_path / "outside"
    mount.mkdir()
    outside.mkdir()
    (mount / "out").symlink_to(outside)
    endpoint = Endpoint(name="e", mount=mount)
    with pytest.raises(InvalidPath, match="leads outside"):
        endpoint.local_path(RelativePath("out/f.h5"))
    (mount / "file").symlink_to("../outside/f.h5")
    with pytest.raises(InvalidPath, match="leads outside"):
        endpoint.local_path(RelativePath("file"))


def test_a_neighbour_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount2").mkdir()
    (tmp_path / "mount/out").symlink_to(tmp_path / "mount2")
    with pytest.raises(InvalidPath):
        Endpoint(name="e", mount=tmp_path / "mount").local_path(RelativePath("out/f"))


def test_an_endpoint_that_is_not_mounted_has_no_local_path() -> None:
    with pytest.raises(ConfigError, match=r"endpoint e is not mounted.*set its `mount`"):
        Endpoint(name="e", uuid=COLLECTION).local_path(RelativePath("f"))


def test_the_place_of_an_endpoint_is_external_unless_said_otherwise() -> None:
    assert Endpoint(name="e", uuid=COLLECTION).place == Place("e", Zone.EXTERNAL)
    assert Endpoint(name="e", uuid=COLLECTION, zone=Zone.BEAMLINE).place == Place("e", Zone.BEAMLINE)


@pytest.mark.parametrize(
    ("given_path", "expected"),
    [
        ("/global/raw/p/f.h5", "raw/p/f.h5"),
        ("//global//raw/p/f.h5", "raw/p/f.h5"),
        ("raw/p/f.h5", "raw/p/f.h5"),
        ("/global/raw/global/f.h5", "raw/global/f.h5"),
        ("/global/raw/a b/ü µ.h5", "raw/a b/ü µ.h5"),
    ],
)
def test_the_path_that_acquisition_writes_becomes_relative(given_path: str, expected: str) -> None:
    assert beamline().relative(given_path) == RelativePath(expected)


@pytest.mark.parametrize(
    "path", ["", "/", "/global", "/global/", "/globalx/f", "/raw/f", "/global/../etc/passwd", "../f", "a/./b", "a\nb"]
)
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        beamline().relative(path)


def test_endpoints_that_can_hold_the_same_file_share_storage(tmp_path: Path) -> None:
    data = Endpoint(name="d", uuid=COLLECTION, root_path="/data", uri="host")
    raw = Endpoint(name="r", uuid=COLLECTION, root_path="/data/raw", uri="host")
    other_collection = Endpoint(name="o", uuid=UUID(int=7), root_path="/data", uri="host")
    scratch = Endpoint(name="s", uuid=COLLECTION, root_path="/scratch", uri="host")
    assert data.shares_storage_with(raw)
    assert raw.shares_storage_with(data)
    assert other_collection.shares_storage_with(raw)
    assert not data.shares_storage_with(scratch)
    here, below = Endpoint(name="h", mount=tmp_path), Endpoint(name="b", mount=tmp_path / "b")
    assert here.shares_storage_with(below)
    assert not here.shares_storage_with(data)


def test_what_is_in_quarantine_is_no_scan() -> None:
    for path in (".quarantine/2026-11-29/1-1/scan.h5", "/global/.quarantine/2026-11-29/1-1/scan.h5"):
        with pytest.raises(InvalidPath, match="in quarantine") as caught:
            beamline().relative(path)
        assert "retention restore" in caught.value.next_step
    assert beamline().relative("raw/.quarantine.h5") == RelativePath("raw/.quarantine.h5")
