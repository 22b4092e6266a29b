"""A disk that is not mounted leaves an empty folder: nothing in it was deleted, and nothing in it is."""

from __future__ import annotations

import pytest
from history_world import DAY, World

from orchestration.errors import DeletionUnproven, EndpointRefused
from orchestration.flows.deleting import settled
from orchestration.ledger.copy import CopyRecord, CopyState, Proven
from orchestration.ledger.operation import Operation
from orchestration.paths import RelativePath
from orchestration.transfers import DeleteRequest


def due(world: World) -> CopyRecord:
    """An original that may go: it has a copy on the server."""
    world.acquire(1, b"scan")
    world.copy(1, "detector", "server")
    world.clock += 3 * DAY
    return at(world, "detector")


def at(world: World, place: str) -> CopyRecord:
    (copy,) = [each for each in world.copies(1) if each.endpoint == place]
    return copy


def unmount(world: World, place: str) -> None:
    world.down(place)
    (world.folder / place).mkdir()


def mount(world: World, place: str) -> None:
    (world.folder / place).rmdir()
    world.up()


def test_what_lies_on_a_disk_that_is_not_mounted_does_not_count_as_deleted(world: World) -> None:
    copy = due(world)
    unmount(world, "detector")
    world.sweep()
    with pytest.raises(DeletionUnproven, match="is its disk mounted"):
        world.fire(world.calendar.timers[-1])
    assert at(world, "detector").state is CopyState.PRESENT
    mount(world, "detector")
    assert world.file("detector", copy.path).exists()
    world.sweep()
    assert at(world, "detector").state is CopyState.DELETED
    assert not world.file("detector", copy.path).exists()


def test_a_deletion_that_a_crash_broke_off_does_not_end_on_a_disk_that_is_not_mounted(world: World) -> None:
    copy = due(world)
    endpoint = world.settings.endpoint("detector")
    with world.work() as work:
        deletion = Operation(
            scan=world.scan(1),
            step="delete",
            request=DeleteRequest(endpoint=endpoint, paths=(copy.path,), ignore_missing=True),
            destination=endpoint.place,
            deadline=DAY,
        )
        assert not world.ledger.copies.begin_deletion([Proven(copy=copy)], deletion, service="local.delete")
        unmount(world, "detector")
        with pytest.raises(EndpointRefused, match="its disk is not mounted"):
            work.perform(deletion, work.services.local_delete)
        (left,) = settled(work, [at(world, "detector")])
    assert left.state is CopyState.PRESENT
    mount(world, "detector")
    assert world.file("detector", RelativePath(copy.path.text)).exists()
