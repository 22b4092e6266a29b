"""One small world for all trials of this folder: every trial takes a scan of its own through it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
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


@pytest.fixture
def here(room: Room, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is at home in the world of the trials."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_API", "BEAMLINE_"))]:
        monkeypatch.delenv(name)
    for name, value in room.world.environment.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: room.world.prefect_url}):
        yield
