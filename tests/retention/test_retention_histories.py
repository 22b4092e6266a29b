"""Whatever happens, in any order: no last copy is deleted, nothing flagged gets out, nothing outside is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from histories import became, search, steps
from history_world import DAY, World


def taken() -> int:
    return sum(steps.values())


@pytest.mark.timeout(280)
def test_nothing_is_lost_and_nothing_leaks_in_a_few_histories() -> None:
    steps.clear()
    search(examples=12)
    assert taken() > 400


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nothing_is_lost_and_nothing_leaks_in_ten_thousand_steps() -> None:
    steps.clear()
    became.clear()
    search(examples=300)
    assert taken() >= 10_000
    # All that can happen has happened, often.
    assert {kind for kind, number in (steps + became).items() if number >= 25} >= {
        "acquire",
        "copy",
        "timer",
        "sweep",
        "by hand",
        "restore",
        "verify",
        "crash",
        "clock",
        "outage",
        "hold",
        "lose",
        "shorten",
        "rewrite",
        "rot",
        "link",
        "disk fails",
        "deleted",
        "quarantined",
    }


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_what_had_failed_is_not_deleted_by_its_old_proof(after: int, tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.acquire(0, b"scan")
    world.copy(0, "detector", "server")
    world.clock += 3 * DAY
    world.deletions.fail = True
    with world.crashing(after):
        world.sweep()
    world.deletions.fail = False
    world.file("server", world.path(0)).unlink()
    for _ in range(2):
        with world.crashing(None):
            world.sweep()
        with world.crashing(None):
            world.fire(world.calendar.timers[0])
    assert world.file("detector", world.path(0)).read_bytes() == b"scan"
    world.close()
