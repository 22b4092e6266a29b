"""What lies in quarantine is brought back, whole, to where it was."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from quarantine_room import (
    DAY,
    HOUR,
    PRUNE,
    RESTORE,
    aside,
    cancelled,
    command,
    grace_is_over,
    restore,
    second_step,
    set_aside,
    the_copy,
    verdicts,
    with_grace,
)
from trial_room import LOCAL, NEW_FILE, Room

from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyState
from orchestration.ledger.service import Json
from orchestration.sandbox.trials.kills import Ended, Kill


@pytest.fixture
def room(one_room: Room) -> Iterator[Room]:
    with with_grace(one_room) as room:
        yield room


@pytest.mark.slow
def test_a_copy_that_is_brought_back_while_its_second_step_begins_is_whole_or_gone(room: Room) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    step = room.start(f"{PRUNE}spot832", relative_path=copy.lies_at.text, generation=1)
    words: list[Json] = [file_path.removeprefix("/global/")]
    back = room.start(RESTORE, args=words, standalone_mode=False).wait()
    step.wait()
    state = the_copy(room, "spot832", file_path).state
    assert state is (CopyState.PRESENT if back.completed else CopyState.DELETED), back
    assert room.file("spot832", file_path).exists() is back.completed
    assert not aside(room, copy).exists()


@pytest.mark.slow
def test_a_copy_is_brought_back_and_goes_again_when_its_rule_says_so(room: Room) -> None:
    file_path = room.moved_scan()
    home = room.file("spot832", file_path)
    content = home.read_bytes()
    aside_copy = set_aside(room, "spot832", file_path)
    room.keep_copies(None)
    page = command(room, "retention", "explain", file_path.removeprefix("/global/"))
    assert "in quarantine since" in page.stdout, page
    assert f"restore {aside_copy.path} --endpoint spot832 --dataset raw" in page.stdout
    told = command(room, "retention", "restore", file_path.removeprefix("/global/"), "--endpoint", "spot832")
    assert told.returncode == 0, told
    assert "raw is back at spot832:" in told.stdout
    assert told.stderr == ""
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, copy.generation, copy.verified_at) == (CopyState.PRESENT, 2, aside_copy.verified_at)
    assert home.read_bytes() == content
    assert copy.delete_after is not None
    assert abs(copy.delete_after - time.time() - DAY) < HOUR
    assert verdicts(room, file_path) == [Verdict.PROVED, Verdict.QUARANTINED, Verdict.RESTORED]
    assert cancelled(room, aside_copy) == [True]
    late = second_step(room, aside_copy)
    assert (late.completed, late.value["deleted"]) == (True, [])
    again = set_aside(room, "spot832", file_path)
    assert again.lies_at != aside_copy.lies_at
    assert (aside(room, again).read_bytes(), home.exists()) == (content, False)
    assert room.effects(file_path).count("renamed") == 3


@pytest.mark.slow
def test_a_copy_comes_back_to_a_directory_of_this_machine_and_while_prefect_is_away(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(LOCAL, file_path=file_path).completed
    room.let_time_pass(file_path)
    copy = the_copy(room, "local832_raw", file_path)
    home = room.world.root("local832_raw") / copy.path.text
    assert room.run(f"{PRUNE}local832_raw", relative_path=copy.path.text, generation=1).completed
    assert not home.exists()
    room.world.kill("prefect")
    try:
        told = command(room, "retention", "restore", file_path.removeprefix("/global/"))
    finally:
        room.world.start("prefect")
    assert told.returncode == 0, told
    assert "will find nothing" in told.stderr
    assert "`reconcile` plans it when it is due" in told.stderr
    assert home.exists()
    assert the_copy(room, "local832_raw", file_path).state is CopyState.PRESENT


def test_nothing_is_brought_back_to_where_something_else_stands(room: Room) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    home = room.file("spot832", file_path)
    home.write_text("something else")
    ended = restore(room, file_path)
    assert ended.error_type == "InvalidInput", ended
    assert "something else stands at" in str(ended.error)
    assert home.read_text() == "something else"
    assert the_copy(room, "spot832", file_path) == copy
    home.unlink()
    assert restore(room, file_path).completed


@pytest.mark.slow
def test_only_what_is_in_quarantine_can_be_brought_back(room: Room) -> None:
    file_path = room.moved_scan()
    set_aside(room, "data832", file_path)
    ended = restore(room, file_path, "--endpoint", "spot832")
    assert ended.error_type == "InvalidInput", ended
    assert "no copy of any dataset at spot832 is in quarantine" in str(ended.error)
    assert restore(room, file_path, "--endpoint", "spot83").error_type == "UnknownName"
    room.keep_copies(None)
    assert room.run(NEW_FILE, file_path=file_path).completed
    ended = restore(room, file_path, "--dataset", "raw")
    assert ended.error_type == "InvalidInput", ended
    assert "taken by a newer copy" in str(ended.error)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before-submit", "after-submit"])
def test_a_restore_that_is_killed_keeps_the_copy_and_is_carried_on(room: Room, where: str) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    assert restore(room, file_path, kill=Kill(at=f"{where} of restore raw at spot832")).killed
    assert restore(room, file_path).completed
    back = the_copy(room, "spot832", file_path)
    assert (back.state, back.generation) == (CopyState.PRESENT, 2)
    assert room.file("spot832", file_path).exists()
    assert room.effects(file_path).count("renamed") == 2
    assert second_step(room, copy).value["deleted"] == []


@pytest.mark.slow
def test_a_second_step_finds_a_restore_that_was_killed_and_sees_it_to_its_end(room: Room) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    assert restore(room, file_path, kill=Kill(at="after-submit of restore raw at spot832")).killed
    ended = second_step(room, copy)
    assert (ended.completed, ended.value["deleted"]) == (True, []), ended
    assert the_copy(room, "spot832", file_path).state is CopyState.PRESENT
    assert room.file("spot832", file_path).exists()


@pytest.mark.slow
def test_a_restore_that_is_killed_at_every_kind_of_boundary_happens_once(room: Room) -> None:
    file_path = room.moved_scan()
    set_aside(room, "spot832", file_path)
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = restore(room, file_path, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
        if the_copy(room, "spot832", file_path).state is CopyState.PRESENT:
            break
    assert len(spared) > 5
    assert room.file("spot832", file_path).exists()
    assert room.effects(file_path).count("renamed") == 2
    assert verdicts(room, file_path).count(Verdict.RESTORED) == 1
