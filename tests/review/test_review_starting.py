"""A file from elsewhere on this machine comes in like a scan, and takes no other's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.config import Settings
from orchestration.errors import InvalidInput, SourceMissing
from orchestration.flows.starting import bring_in
from orchestration.ledger import Ledger


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    endpoint = {"root_path": "/", "mount": str(tmp_path / "acquisition")}
    beamline = {"acquisition": "here", "server": "here", "raw": "here", "scratch": "here"}
    document = {"globus": {"globus_endpoints": {"here": endpoint}}, "beamlines": {"bl832": beamline}}
    (tmp_path / "acquisition").mkdir()
    return Settings.model_validate(document, context=tmp_path)


def test_another_file_of_the_same_name_and_size_is_refused(settings: Settings, tmp_path: Path) -> None:
    one, other = tmp_path / "one" / "scan.h5", tmp_path / "other" / "scan.h5"
    for file, content in ((one, b"the first"), (other, b"is second")):
        file.parent.mkdir()
        file.write_bytes(content)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        place = settings.beamline("bl832")
        assert bring_in(settings, ledger, place, str(one)) == bring_in(settings, ledger, place, str(one))
        with pytest.raises(InvalidInput, match="another file is already at"):
            bring_in(settings, ledger, place, str(other))
    assert (tmp_path / "acquisition" / "raw" / "dropped" / "scan.h5").read_bytes() == b"the first"


def test_what_is_nowhere_is_a_slip_of_the_pen(settings: Settings, tmp_path: Path) -> None:
    with (
        Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger,
        pytest.raises(SourceMissing, match="neither on this machine nor at here"),
    ):
        bring_in(settings, ledger, settings.beamline("bl832"), "raw/ALS-12345/ALS-12345_2026-1.tar")
