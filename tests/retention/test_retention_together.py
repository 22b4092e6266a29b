"""Copies that are deleted together: what is wrong with one keeps no other from it."""

from __future__ import annotations

from history_world import DAY, World

from orchestration.ledger.copy import CopyState


def states(world: World, place: str, *numbers: int) -> list[CopyState]:
    return [each.state for number in numbers for each in world.copies(number) if each.endpoint == place]


def carry(world: World, *numbers: int, to: str) -> None:
    for number in numbers:
        world.acquire(number, b"scan")
        world.copy(number, "detector", to)


def lead_outside(world: World, place: str, number: int) -> None:
    file = world.file(place, world.path(number))
    file.unlink()
    file.symlink_to(world.folder / "outside")


def test_a_copy_that_cannot_be_looked_at_keeps_no_other_from_being_deleted(world: World) -> None:
    carry(world, 1, 3, to="server")
    world.clock += 3 * DAY
    lead_outside(world, "detector", 1)
    world.sweep()
    assert states(world, "detector", 1, 3) == [CopyState.PRESENT, CopyState.DELETED]
    assert world.file("detector", world.path(1)).is_symlink()


def test_a_witness_that_cannot_be_looked_at_is_none_and_keeps_no_other_copy_from_being_deleted(world: World) -> None:
    carry(world, 1, 3, to="server")
    world.clock += 3 * DAY
    lead_outside(world, "server", 1)
    world.sweep()
    assert states(world, "detector", 1, 3) == [CopyState.PRESENT, CopyState.DELETED]
