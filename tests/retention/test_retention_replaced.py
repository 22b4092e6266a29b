"""What is written in place of a copy between its proof and its deletion is refused, not deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from history_world import DAY, Crash, World

from orchestration.flows.pruning import Pruned, prune_copies
from orchestration.ledger.audit import Verdict
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.copy import CopyRecord, CopyState


def at(world: World, place: str, number: int = 1) -> CopyRecord:
    (copy,) = [each for each in world.copies(number) if each.endpoint == place]
    return copy


@contextmanager
def replaced_before(world: World, copy: CopyRecord, step: str, *, dies_after: int | None = None) -> Iterator[Path]:
    """The file is replaced by another of the same length, once, just before that step is submitted.

    The process dies at the so-many-th boundary after that.
    """
    file = world.file(copy.endpoint, copy.path)
    reached: Iterator[int] | None = None

    def replace(boundary: Boundary, subject: str) -> None:
        nonlocal reached
        if reached is not None and next(reached) == dies_after:
            raise Crash
        if reached is None and boundary is Boundary.BEFORE_SUBMIT and subject.startswith(step):
            (file.parent / "new").write_bytes(b"else")
            os.utime(file.parent / "new", (world.clock, world.clock))
            (file.parent / "new").replace(file)
            reached = count()

    with listening(replace):
        yield file


def three_due(world: World) -> None:
    for number in (1, 2, 3):
        world.acquire(number, b"scan")
        world.copy(number, "detector", "server")
    world.clock += 3 * DAY


def pruned(world: World) -> Pruned:
    """What a night says of the three at the detector."""
    with world.work() as work:
        copies = [at(world, "detector", number) for number in (1, 2, 3)]
        there = [copy for copy in copies if copy.state is not CopyState.DELETED]
        return prune_copies(work, world.settings.endpoint("detector"), there)


def verdicts(world: World, number: int) -> list[Verdict]:
    return [line.verdict for line in world.ledger.audit.of_scan(world.scan(number).id)]


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
    with replaced_before(world, at(world, place), step) as file:
        world.sweep()
    assert file.read_bytes() == b"else"
    assert at(world, place).state is CopyState.PRESENT
    last = world.ledger.audit.of_scan(world.scan(1).id)[-1]
    assert (last.endpoint, last.verdict) == (place, Verdict.REFUSED)
    assert f"{file} is not what it was" in last.reason
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


def test_of_those_that_go_together_only_what_was_replaced_is_refused_and_named(world: World) -> None:
    three_due(world)
    with replaced_before(world, at(world, "detector", 2), "delete 3 copies") as file:
        done = pruned(world)
    (refusal,) = done.refused
    assert refusal.where == f"detector:{world.path(2)}"
    assert f"{file} is not what it was" in refusal.what
    assert [proof.copy.path for proof in done.deleted] == [world.path(1), world.path(3)]
    assert file.read_bytes() == b"else"
    assert [at(world, "detector", number).state for number in (1, 2, 3)] == [
        CopyState.DELETED,
        CopyState.PRESENT,
        CopyState.DELETED,
    ]
    assert verdicts(world, 1) == verdicts(world, 3) == [Verdict.PROVED, Verdict.DELETED]
    assert verdicts(world, 2) == [Verdict.PROVED, Verdict.REFUSED]
    line = world.ledger.audit.of_scan(world.scan(2).id)[-1]
    assert line.reason == refusal.what
    (again,) = pruned(world).refused  # nor does the next night take it for what was verified
    assert "written anew" in again.what
    assert file.read_bytes() == b"else"


@pytest.mark.slow
def test_killed_at_any_boundary_those_that_go_together_go_once_and_what_was_replaced_stays(tmp_path: Path) -> None:
    for number in count():
        world = World(tmp_path / str(number))
        three_due(world)
        died = False
        with replaced_before(world, at(world, "detector", 2), "delete 3 copies", dies_after=number) as file:
            try:
                pruned(world)
            except Crash:
                died = True
                world.clock += 120.0  # its leases have lapsed
                pruned(world)
        assert file.read_bytes() == b"else"
        assert not any(world.file("detector", world.path(each)).exists() for each in (1, 3))
        assert at(world, "detector", 2).state is CopyState.PRESENT
        assert [verdicts(world, each).count(Verdict.DELETED) for each in (1, 2, 3)] == [1, 0, 1]
        assert verdicts(world, 2)[-1] is Verdict.REFUSED
        world.close()
        if not died:
            break
    assert number > 8
