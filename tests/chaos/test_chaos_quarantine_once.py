"""Whoever is killed on the way into quarantine, or out of sight there: each step happens once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from quarantine_room import (
    HOUR,
    PRUNE,
    RECONCILE,
    SWEEP,
    aside,
    command,
    copies,
    grace_is_over,
    overdue,
    renewed,
    restore,
    second_step,
    set_aside,
    the_copy,
    timers,
    verdicts,
    with_grace,
)
from trial_room import NEW_FILE, Room

from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyState
from orchestration.sandbox.trials.kills import Ended, Kill


@pytest.fixture
def room(one_room: Room) -> Iterator[Room]:
    with with_grace(one_room) as room:
        yield room


@pytest.mark.slow
def test_a_second_timer_that_prefect_has_lost_is_renewed(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    step = "schedule deletion of raw from quarantine at spot832"
    assert room.prune("spot832", file_path, kill=Kill(at=f"before-reserve of {step}")).killed
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, timers(room, copy)) == (CopyState.QUARANTINED, 0)
    grace_is_over(room, file_path)
    assert ("spot832", copy.path.text) in renewed(room)
    assert timers(room, copy) == 1
    assert second_step(room, copy).value["deleted"]


@pytest.mark.slow
def test_a_night_sets_aside_and_another_deletes_whoever_is_killed_meanwhile(room: Room) -> None:
    scans = [room.moved_scan() for _ in range(2)]
    for file_path in scans:
        room.let_time_pass(file_path)
        overdue(room, file_path)
    assert room.run(SWEEP, dry_run=False, kill=Kill(at="after-submit of quarantine raw at spot832")).killed
    night = room.run(SWEEP, dry_run=False)
    assert night.completed, night
    found = [the_copy(room, "spot832", file_path) for file_path in scans]
    assert [copy.state for copy in found] == [CopyState.QUARANTINED] * 2
    assert [room.effects(file_path).count("renamed") for file_path in scans] == [1, 1]
    assert [timers(room, copy) for copy in found] == [1, 1]
    assert room.run(SWEEP, dry_run=False).completed  # the time of grace goes on
    assert all(aside(room, copy).exists() for copy in found)
    for file_path in scans:
        grace_is_over(room, file_path, since=2 * HOUR)
    night = room.run(SWEEP, dry_run=False)
    assert night.completed, night
    assert [the_copy(room, "spot832", each).state for each in scans] == [CopyState.DELETED] * 2
    assert not any(aside(room, copy).parent.exists() for copy in found)
    together = [each for each in room.overview(scans[0]).operations if each.step.startswith("delete 2 copies at spot")]
    assert len(together) == 1


@pytest.mark.slow
def test_what_a_timer_and_the_night_set_aside_at_the_same_time_is_set_aside_once(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    overdue(room, file_path)
    path = file_path.removeprefix("/global/")
    children = [room.start(f"{PRUNE}spot832", relative_path=path, generation=1), room.start(SWEEP, dry_run=False)]
    assert [child.wait().killed for child in children] == [False, False]
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, aside(room, copy).exists()) == (CopyState.QUARANTINED, True)
    assert room.effects(file_path).count("renamed") == 1
    assert verdicts(room, file_path).count(Verdict.QUARANTINED) == 1


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["cancel", "reconcile"])
def test_a_rename_that_no_run_waits_for_is_seen_to_its_end(room: Room, asked: str) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    step = "quarantine raw at spot832"
    assert room.prune("spot832", file_path, kill=Kill(at=f"after-submit of {step}")).killed
    assert {each.step: each.state.open for each in room.overview(file_path).operations}[step]
    if asked == "cancel":
        told = command(room, "cancel", file_path.removeprefix("/global/"))
        assert f"{step}: had already finished" in told.stdout, told
    else:
        assert room.run(RECONCILE).completed
    assert not {each.step: each.state.open for each in room.overview(file_path).operations}[step]
    assert room.prune("spot832", file_path).completed
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, aside(room, copy).exists()) == (CopyState.QUARANTINED, True)
    assert room.effects(file_path).count("renamed") == 1


@pytest.mark.slow
def test_killed_at_every_kind_of_boundary_both_steps_happen_once(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = room.prune("spot832", file_path, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, ended
    assert len(spared) > 8
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, aside(room, copy).exists(), timers(room, copy)) == (CopyState.QUARANTINED, True, 1)
    assert room.effects(file_path).count("renamed") == 1
    grace_is_over(room, file_path)
    spared, ended = [], Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = second_step(room, copy, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, ended
    assert len(spared) > 8
    assert not aside(room, copy).parent.exists()
    assert the_copy(room, "spot832", file_path).state is CopyState.DELETED
    folder = aside(room, copy).parent.name
    deletions = [each for each in room.world.facility.effects("delete") if any(folder in path for path in each.paths)]
    assert len(deletions) == 1
    told = verdicts(room, file_path)
    assert (told.count(Verdict.QUARANTINED), told.count(Verdict.DELETED)) == (1, 1)


@pytest.mark.slow
def test_a_scan_that_is_taken_again_while_the_first_was_being_set_aside_is_another_one(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    step = "quarantine raw at spot832"
    assert room.prune("spot832", file_path, kill=Kill(at=f"after-submit of {step}")).killed
    home = room.file("spot832", file_path)
    assert not home.exists()
    old = the_copy(room, "spot832", file_path)
    assert old.state is CopyState.DELETING
    home.write_bytes(room.file("data832", file_path).read_bytes() + b"\0")
    os.utime(home, (time.time() + 7, time.time() + 7))
    room.keep_copies(None)
    room.run(NEW_FILE, file_path=file_path)  # the catalogue does not let its record be replaced
    first, second = copies(room, "spot832", file_path)
    assert (first.id, second.generation, second.state) == (old.id, 2, CopyState.PRESENT)
    room.keep_copies(0.0)
    assert ("spot832", first.path.text) in renewed(room)
    ended = room.run(f"{PRUNE}spot832", relative_path=first.path.text, generation=1)
    assert ended.completed, ended
    first, second = copies(room, "spot832", file_path)
    assert (first.state, second.state) == (CopyState.QUARANTINED, CopyState.PRESENT)
    assert (aside(room, first).exists(), home.exists()) == (True, True)
    assert room.effects(file_path).count("renamed") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("where", "day"), [("before-submit", "2026-01-02"), ("after-submit", "2026-01-05")])
def test_what_is_left_of_a_day_in_quarantine_goes_at_night_whoever_is_killed(room: Room, where: str, day: str) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    quarantine = aside(room, copy).parents[2]
    assert restore(room, file_path).completed
    left = quarantine / day / f"{copy.id}-1"
    foreign = quarantine / f"2025{day[4:]}" / f"{copy.id}-1" / "notes.txt"
    for folder in (left, foreign.parent):
        folder.mkdir(parents=True)
    foreign.write_text("precious")
    assert room.run(SWEEP).completed
    assert left.exists(), "a person who is only told what the night would do"
    step = f"remove the empty quarantine of {day} at spot832"
    assert room.run(SWEEP, dry_run=False, kill=Kill(at=f"{where} of {step}")).killed
    room.run(SWEEP, dry_run=False)
    assert room.run(RECONCILE).completed
    assert not left.parent.exists()
    assert foreign.exists()
    assert aside(room, copy).parents[1].exists(), "that day is not over"
    assert room.file("spot832", file_path).exists()
    removals = [each for each in room.world.facility.effects("delete") if any(day in path for path in each.paths)]
    assert len(removals) == 1
