"""One small world for all tests of this folder, with the real programs: every test takes measurements of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xpcs_room import BATCH, BEAMLINE, DELETIONS, ONLINE, REPROCESS, XpcsRoom, quick, write_templates

from orchestration.sandbox.trials.world import World


@contextmanager
def _room(folder: Path) -> Iterator[XpcsRoom]:
    modules = [target.partition(":")[0] for target in (ONLINE, REPROCESS, BATCH)]
    with World(folder / "world", real=True) as world:
        quick(world.layout.config_file)
        with world.nursery(*modules) as nursery:
            made = nursery.run(
                "orchestration.sandbox.trials.deployments:make",
                {"beamline": BEAMLINE, "names": list(DELETIONS)},
            )
            assert made.completed, made
            templates = folder / "templates"
            templates.mkdir()
            yield XpcsRoom(world, nursery, write_templates(templates))


@pytest.fixture
def room(
    once: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[XpcsRoom]:
    found: XpcsRoom = once("room", lambda: _room(Path(tmp_path_factory.mktemp("aps8idi"))))
    for name, value in found.world.environment.items():
        monkeypatch.setenv(name, value)  # so that tests can ask the index
    found.world.facility.faults.clear()
    yield found
    found.world.facility.faults.clear()
