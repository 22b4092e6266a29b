"""Folders of a quarantine do not outlive what lay in them; nothing else in it is touched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from history_world import DAY, World

from orchestration.flows.emptying import remove_empty_folders
from orchestration.flows.orphans import look_after_orphans
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.copy import CopyState
from orchestration.paths import QUARANTINE


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    yield world
    world.close()


def quarantine(world: World) -> Path:
    return world.folder / "server" / QUARANTINE


def set_aside(world: World, *numbers: int) -> None:
    """What these scans have at the server, whose rule leaves two days of grace."""
    for number in numbers:
        world.acquire(number, f"scan {number}".encode())
        for source, destination in (("detector", "server"), ("server", "archive")):
            world.copy(number, source, destination)
    world.clock += 11 * DAY
    world.sweep()
    assert states(world, *numbers) == [CopyState.QUARANTINED] * len(numbers)


def states(world: World, *numbers: int) -> list[CopyState]:
    return [copy.state for number in numbers for copy in world.copies(number) if copy.endpoint == "server"]


def removed(world: World) -> int:
    with world.work() as work:
        return remove_empty_folders(work)


def test_the_folder_of_a_day_goes_once_all_that_lay_there_was_deleted_or_brought_back(world: World) -> None:
    set_aside(world, 0, 1, 2)
    (day,) = quarantine(world).iterdir()
    world.restore(0)
    world.clock += 3 * DAY
    world.ledger.holds.place(world.scan(1).id, why="paper", who="ada")
    world.sweep()
    assert states(world, 0, 1, 2) == [CopyState.PRESENT, CopyState.QUARANTINED, CopyState.DELETED]
    assert removed(world) == 0
    assert len(list(day.iterdir())) == 2  # that of the one that was brought back, and that of the one that is held
    world.ledger.holds.release(world.scan(1).id, who="ada")
    world.sweep()
    assert states(world, 1) == [CopyState.DELETED]
    assert removed(world) == 1
    assert list(quarantine(world).iterdir()) == []
    assert world.file("server", world.path(0)).read_bytes() == b"scan 0"
    assert removed(world) == 0


def test_the_folder_of_a_day_goes_if_only_the_ledger_knows_of_what_lay_there(world: World) -> None:
    set_aside(world, 0)
    world.clock += 3 * DAY
    world.sweep()
    (day,) = quarantine(world).iterdir()
    assert list(day.iterdir()) == []
    assert removed(world) == 1
    assert not day.exists()


def test_the_folder_of_a_day_that_is_not_over_for_long_stays(world: World) -> None:
    set_aside(world, 0)
    world.restore(0)
    assert removed(world) == 0
    world.clock += 2 * DAY
    assert removed(world) == 0
    world.clock += 2 * DAY
    assert removed(world) == 1


@pytest.mark.parametrize("foreign", ["{day}/notes.txt", "{copy}/notes.txt", "{day}/folder/", "{day}/link"])
def test_a_folder_with_anything_else_in_it_stays(world: World, foreign: str) -> None:
    set_aside(world, 0)
    (copy,) = quarantine(world).glob("*/*")
    world.restore(0)
    world.clock += 5 * DAY
    path = Path(foreign.format(day=copy.parent, copy=copy))
    if foreign.endswith("/"):
        path.mkdir()
    elif foreign.endswith("link"):
        path.symlink_to(world.folder / "archive")
    else:
        path.write_text("precious")
    assert removed(world) == 0
    assert path.exists()
    assert copy.exists()


@pytest.mark.parametrize("name", ["notes.txt", "{copy}/notes.txt"])
def test_a_file_that_comes_while_a_folder_is_being_removed_stays(world: World, name: str) -> None:
    set_aside(world, 0)
    (copy,) = quarantine(world).glob("*/*")
    world.restore(0)
    world.clock += 5 * DAY
    path = copy.parent / name.format(copy=copy.name)

    def come(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.BEFORE_SUBMIT:
            path.write_text("precious")

    with listening(come):
        assert removed(world) == 0
    assert path.read_text() == "precious"
    assert removed(world) == 0
    path.unlink()
    assert removed(world) == 1


def test_what_this_service_has_not_made_stays(world: World) -> None:
    set_aside(world, 0)
    world.restore(0)
    (day,) = quarantine(world).iterdir()
    world.clock += 5 * DAY
    others = [quarantine(world) / name for name in ("2020-01-01", "notes", "2020-1-1", "20200101")]
    for other in others:
        other.mkdir()
    assert removed(world) == 1
    assert not day.exists()
    assert all(other.exists() for other in others)


def test_an_endpoint_that_is_away_is_left_for_another_night(world: World) -> None:
    set_aside(world, 0)
    world.restore(0)
    world.clock += 5 * DAY
    world.down("server")
    assert removed(world) == 0
    world.up()
    assert removed(world) == 1


@pytest.mark.parametrize("boundary", range(12))
def test_a_removal_that_is_cut_short_is_carried_on(world: World, boundary: int) -> None:
    set_aside(world, 0)
    world.restore(0)
    world.clock += 5 * DAY
    with world.crashing(boundary):
        removed(world)
    give_up = time.monotonic() + 30.0
    while world.ledger.operations.open() and time.monotonic() < give_up:
        with world.work() as work:
            look_after_orphans(work)  # as each `reconcile` does
        removed(world)
    removed(world)
    assert world.ledger.operations.open() == []
    assert list(quarantine(world).iterdir()) == []
    assert world.file("server", world.path(0)).exists()
