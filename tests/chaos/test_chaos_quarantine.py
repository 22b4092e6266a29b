"""What is deleted in two steps lies in quarantine between them: out of sight, and to be had back until the second."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from quarantine_room import (
    DAY,
    GRACE,
    HOUR,
    PRUNE,
    aside,
    copies,
    grace_is_over,
    second_step,
    set_aside,
    settle,
    the_copy,
    timers,
    verdicts,
    with_grace,
)
from trial_room import LOCAL, NEW_FILE, Room

from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyState
from orchestration.paths import QUARANTINE


@pytest.fixture
def room(one_room: Room) -> Iterator[Room]:
    with with_grace(one_room) as room:
        yield room


def test_a_copy_is_set_aside_first_and_deleted_when_it_is_proved_again(room: Room) -> None:
    file_path = room.moved_scan()
    home = room.file("spot832", file_path)
    content = home.read_bytes()
    copy = set_aside(room, "spot832", file_path)
    assert (home.exists(), aside(room, copy).read_bytes()) == (False, content)
    assert copy.lies_at.text.startswith(f"{QUARANTINE}/")
    assert copy.lies_at.text.endswith(f"/{copy.id}-1/{home.name}")
    assert copy.delete_after is not None
    assert abs(copy.delete_after - time.time() - GRACE * DAY) < HOUR
    assert verdicts(room, file_path) == [Verdict.PROVED, Verdict.QUARANTINED]
    assert room.effects(file_path).count("renamed") == 1
    assert timers(room, copy) == 1
    again = room.prune("spot832", file_path)
    assert again.completed, again
    assert again.value["quarantined"]
    assert second_step(room, copy).value["quarantined"]
    assert (aside(room, copy).exists(), timers(room, copy)) == (True, 1)
    grace_is_over(room, file_path)
    ended = second_step(room, copy)
    assert ended.value["deleted"], ended
    assert not aside(room, copy).parent.exists()
    assert the_copy(room, "spot832", file_path).state is CopyState.DELETED
    assert verdicts(room, file_path) == [Verdict.PROVED, Verdict.QUARANTINED, Verdict.PROVED, Verdict.DELETED]
    assert room.effects(file_path).count("delete") == 1


@pytest.mark.slow
def test_a_copy_in_a_directory_of_this_machine_is_set_aside_as_well(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(LOCAL, file_path=file_path).completed
    room.let_time_pass(file_path)
    copy = the_copy(room, "local832_raw", file_path)
    home = room.world.root("local832_raw") / copy.path.text
    ended = room.run(f"{PRUNE}local832_raw", relative_path=copy.path.text, generation=1)
    assert ended.completed, ended
    copy = the_copy(room, "local832_raw", file_path)
    assert (copy.state, home.exists(), aside(room, copy).exists()) == (CopyState.QUARANTINED, False, True)
    assert timers(room, copy) == 1
    grace_is_over(room, file_path)
    assert second_step(room, copy).value["deleted"]
    assert not aside(room, copy).parent.exists()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["shorter", "missing", "held"])
def test_what_is_not_proved_a_second_time_stays_in_quarantine(room: Room, spoil: str) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    witness = room.file("data832", file_path)
    if spoil == "shorter":
        witness.write_bytes(witness.read_bytes()[:-1])
    elif spoil == "missing":
        witness.unlink()
    else:
        with room.world.ledger() as ledger:
            ledger.holds.place(room.overview(file_path).scan.id, why="paper", who="ada")
    ended = second_step(room, copy)
    if spoil == "held":
        assert "held by ada" in str(ended.value["put off"]), ended
        assert timers(room, copy) == 2
    else:
        assert ended.error_type == "DeletionUnproven", ended
        assert "data832" in str(ended.error)
    assert aside(room, copy).exists()
    assert the_copy(room, "spot832", file_path).state is CopyState.QUARANTINED
    assert "delete" not in room.effects(file_path)


@pytest.mark.slow
def test_what_was_changed_in_quarantine_stays_there(room: Room) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    (aside(room, copy).parent / "somebody's notes.txt").write_text("precious")
    ended = second_step(room, copy)
    assert ended.error_type == "DeletionUnproven", ended
    assert "not what was verified" in str(ended.error)
    assert (aside(room, copy).parent / "somebody's notes.txt").exists()


def test_a_copy_in_quarantine_proves_nothing(room: Room) -> None:
    file_path = room.moved_scan()
    set_aside(room, "data832", file_path)
    ended = room.prune("spot832", file_path)
    assert ended.error_type == "DeletionUnproven", ended
    assert "data832: that copy is in quarantine" in str(ended.error)
    assert room.file("spot832", file_path).exists()


@pytest.mark.slow
def test_what_is_carried_anew_is_another_copy_than_what_lies_in_quarantine(room: Room) -> None:
    file_path = room.moved_scan()
    old = set_aside(room, "data832", file_path)
    room.keep_copies(None)
    assert room.run(NEW_FILE, file_path=file_path).completed
    first, second = copies(room, "data832", file_path)
    assert (first.id, first.state, first.path) == (old.id, CopyState.QUARANTINED, old.lies_at)
    assert (second.state, second.generation, second.path) == (CopyState.PRESENT, 2, old.path)
    assert room.file("data832", file_path).exists()
    assert aside(room, first).exists()
    room.keep_copies(0.0)
    grace_is_over(room, file_path)
    assert second_step(room, first).value["deleted"]
    assert not aside(room, first).exists()
    assert room.file("data832", file_path).exists()
    assert [copy.state for copy in copies(room, "data832", file_path)] == [CopyState.DELETED, CopyState.PRESENT]


@pytest.mark.slow
def test_a_scan_that_comes_again_while_its_original_is_in_quarantine_is_not_said_to_be_there(room: Room) -> None:
    file_path = room.moved_scan()
    aside_copy = set_aside(room, "spot832", file_path)
    assert room.run(NEW_FILE, file_path=file_path).completed
    assert the_copy(room, "spot832", file_path) == aside_copy
    assert room.run(LOCAL, file_path=file_path).completed


@pytest.mark.slow
def test_where_nothing_can_be_renamed_a_copy_goes_at_once(room: Room) -> None:
    file_path = room.moved_scan()
    settle(room, "endpoints", "spot832", can_rename=False)
    room.let_time_pass(file_path)
    assert room.prune("spot832", file_path).value["deleted"]
    assert not room.file("spot832", file_path).exists()
    assert the_copy(room, "spot832", file_path).state is CopyState.DELETED
    assert "renamed" not in room.effects(file_path)


@pytest.mark.slow
def test_a_quarantine_on_another_file_system_is_said_and_the_copy_stays(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    endpoint = room.world.settings().endpoint("spot832")
    folder = f"{endpoint.root_path.rstrip('/')}/{QUARANTINE}"
    room.world.facility.collections.set(room.collection("spot832"), volumes=[folder])
    ended = room.prune("spot832", file_path)
    assert ended.error_type == "EndpointRefused", ended
    assert "can_rename: false" in str(ended.error)
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, copy.quarantine_path) == (CopyState.PRESENT, None)
    assert room.file("spot832", file_path).exists()
    assert verdicts(room, file_path) == [Verdict.PROVED, Verdict.FAILED]
    room.world.facility.collections.set(room.collection("spot832"), volumes=[])
    set_aside(room, "spot832", file_path)
