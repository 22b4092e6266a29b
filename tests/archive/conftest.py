"""One small world for all tests of this folder; each has a proposal of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from archive_room import Room

from orchestration.sandbox.trials.world import BEAMLINE, World

DEPLOYED = ("prune_nersc832", "prune_spot832", "prune_data832", "cfs_to_hpss_flow")


@pytest.fixture
def world(once: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> World:
    found: World = once("archive world", lambda: World(Path(tmp_path_factory.mktemp("archive")) / "world"))
    return found


@pytest.fixture
def one_room(once: Callable[..., Any], world: World) -> Room:
    found: Room = once("archive room", lambda: _room(world))
    return found


@contextmanager
def _room(world: World) -> Iterator[Room]:
    with world.nursery() as nursery:
        made = nursery.run(
            "orchestration.sandbox.trials.deployments:make", {"beamline": BEAMLINE, "names": [*DEPLOYED]}
        )
        assert made.completed, made
        yield Room(world, nursery)


@pytest.fixture
def room(one_room: Room) -> Iterator[Room]:
    one_room.calm()
    yield one_room
    one_room.calm()
