"""What is written in place of a copy between its proof and its deletion is refused, not deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from history_world import DAY, World

from orchestration.errors import SourceChanged
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.copy import CopyRecord, CopyState


def at(world: World, place: str) -> CopyRecord:
    (copy,) = [each for each in world.copies(1) if each.endpoint == place]
    return copy


def sweep_while_it_is_replaced(world: World, copy: CopyRecord, step: str) -> Path:
    """By another file of the same length."""
    file = world.file(copy.endpoint, copy.path)

    def replace(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.BEFORE_SUBMIT and subject.startswith(step):
            (file.parent / "new").write_bytes(b"else")
            os.utime(file.parent / "new", (world.clock, world.clock))
            (file.parent / "new").replace(file)

    with listening(replace), pytest.raises(SourceChanged):
        world.sweep()
    return file


@pytest.mark.parametrize(
    ("place", "other", "step"), [("detector", "server", "delete raw"), ("server", "archive", "quarantine raw")]
)
def test_what_was_replaced_after_its_proof_stays(world: World, place: str, other: str, step: str) -> None:
    world.acquire(1, b"scan")
    for where in {"server", other}:
        world.copy(1, "detector", where)
    world.clock += 3 * DAY
    if place == "server":
        world.sweep()  # the detector's
        world.clock += 8 * DAY
    file = sweep_while_it_is_replaced(world, at(world, place), step)
    assert file.read_bytes() == b"else"
    assert at(world, place).state is CopyState.PRESENT
    world.sweep()  # nor does the next night take it for what was verified
    assert file.read_bytes() == b"else"


def test_what_nobody_touched_goes(world: World) -> None:
    world.acquire(1, b"scan")
    world.copy(1, "detector", "server")
    world.clock += 3 * DAY
    file = world.file("detector", at(world, "detector").path)
    world.sweep()
    assert not file.exists()
    assert at(world, "detector").state is CopyState.DELETED
