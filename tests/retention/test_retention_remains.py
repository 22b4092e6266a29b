"""Deletions that nobody has planned: one that cannot be planned keeps no other from it, and a cancelled run all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from history_world import DAY, World

from orchestration.errors import Cancelled
from orchestration.flows.remains import plan_deletions
from orchestration.flows.work import Work
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunState


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world")
    for number in (0, 1):
        _interrupted(world, number)
    yield world
    world.close()


def _interrupted(world: World, number: int) -> None:
    """A scan whose run has died; of its copy at the server it is known when it may go, and nothing is planned."""
    world.acquire(number, f"scan {number}".encode())
    world.copy(number, "detector", "server")
    (copy,) = (each for each in world.copies(number) if each.endpoint == "server")
    world.ledger.copies.postpone(copy, world.clock + 11 * DAY)
    run_id, scan = f"run {number}", world.scan(number)
    world.ledger.runs.begin(run_id=run_id, flow="f", parameters={}, owner=Owner.here(), scan_id=scan.id)
    world.ledger.runs.finish(run_id, RunState.DEAD)


def planned(world: World, work: Work, *, cancel: str) -> int:
    """How many deletions are in the calendar, when the first is cancelled by a person, or the run that plans it."""
    cancelled: list[str] = []

    def come(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.BEFORE_RESERVE and not cancelled:
            (operation,) = world.ledger.operations.open()
            cancelled.append(operation.key)
            if cancel == "run":
                world.ledger.runs.request_cancel(work.run_id)
            else:
                world.ledger.operations.request_cancel(operation.key)

    with listening(come):
        return len(plan_deletions(work))


def test_what_is_cancelled_by_itself_keeps_no_other_from_being_planned(world: World) -> None:
    with world.work() as work:
        assert planned(world, work, cancel="operation") == 1


def test_a_run_that_is_cancelled_plans_nothing_more_and_does_not_end_as_if_it_had(world: World) -> None:
    before = len(world.calendar.timers)
    with world.work() as work, pytest.raises(Cancelled):
        planned(world, work, cancel="run")
    assert len(world.calendar.timers) == before + 1
    with world.work() as work:
        assert len(plan_deletions(work)) == 1
