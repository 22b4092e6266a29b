"""One small world for all trials of this folder: every trial takes a scan of its own through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from trial_room import Room

from orchestration.sandbox.trials.world import World


@pytest.fixture
def world(once: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> World:
    found: World = once("world", lambda: World(Path(tmp_path_factory.mktemp("chaos")) / "world"))
    return found


@pytest.fixture
def one_room(once: Callable[..., Any], world: World) -> Room:
    found: Room = once("room", lambda: _room(world))
    return found


@contextmanager
def _room(world: World) -> Iterator[Room]:
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
