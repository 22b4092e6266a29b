"""One small world for all trials of this folder: every trial takes a scan of its own through it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trial_room import Room

from orchestration.sandbox.trials.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(Path(tmp_path_factory.mktemp("chaos")) / "world") as world:
        yield world


@pytest.fixture(scope="session")
def one_room(world: World) -> Iterator[Room]:
    with world.nursery() as nursery:
        room = Room(world, nursery)
        room.deploy()
        yield room


@pytest.fixture
def room(one_room: Room) -> Iterator[Room]:
    """Without the faults that another test may have left behind."""
    one_room.calm()
    yield one_room
    one_room.calm()
