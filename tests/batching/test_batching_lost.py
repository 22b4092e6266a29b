"""What was carried with others and is not there as it was any more is carried anew when it is sent again."""

from __future__ import annotations

import pytest
from batching_world import World

from orchestration.ledger.copy import LOST, CopyState


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("state", [*LOST, CopyState.PRESENT])
def test_a_copy_that_was_found_changed_or_missing_is_carried_anew(
    world: World, state: CopyState, settled: bool
) -> None:
    """`present`: nobody has looked yet."""
    names = world.files(4)
    file = world.folder / "there" / names[1]
    with world.run("first") as run:
        done = world.carry(run, names)
        if settled:
            run.ledger.arrivals.settle(done.scans, run_id="first")
        (copied,) = (each for each in done.copies.values() if each.path.text == names[1])
        if state is CopyState.CHANGED:
            file.write_bytes(file.read_bytes()[:-1] + b"?")
        else:
            file.unlink()
        run.ledger.copies.found(copied, state, why="read", by_checksum=True)
    with world.run("next") as run:
        again = world.carry(run, names)
        assert (len(again.copies), again.failed) == (4, {})
        assert run.ledger.copies.get(copied.id).state is CopyState.PRESENT
        assert run.ledger.copies.get(copied.id).verified_at > copied.verified_at
    assert world.arrived() == world.arrived("here")
