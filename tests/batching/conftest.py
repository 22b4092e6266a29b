from __future__ import annotations

from pathlib import Path

import pytest
from batching_world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("BEAMLINE_STATE", str(tmp_path / "state"))
    return World.make(tmp_path / "world")
