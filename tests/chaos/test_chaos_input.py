"""What is wrong with a scan is said in one sentence, by its own error, and nothing else is touched."""

from __future__ import annotations

import threading

import pytest
from trial_room import LOCAL, NEW_FILE, Room

from orchestration.ledger.overview import ScanState
from orchestration.sandbox.trials.audit import NEW_FILE_FLOW
from orchestration.sandbox.trials.kills import Ended


def failed(room: Room, file_path: str, ended: Ended, error_type: str, *, where: bool = True) -> str:
    """The sentence of a run that failed for this reason, as the caller, the ledger and Prefect all say."""
    assert ended.error_type == error_type, ended
    assert ended.error is not None
    assert ended.error.what
    assert ended.error.next_step
    assert ended.error.where or not where
    state, message = room.prefect_states(file_path)[-1]
    assert state == "FAILED"
    assert ended.error.what[:80] in message
    return ended.error.sentence


def nothing_but(room: Room, file_path: str, *kinds: str) -> None:
    """These and no other things were done at the facility for the scan."""
    assert [kind for kind in room.effects(file_path) if kind not in kinds] == []


def test_a_scan_that_is_not_there_is_missing(room: Room) -> None:
    file_path = "/global/raw/trials/never_taken.h5"
    sentence = failed(room, file_path, room.run(NEW_FILE, file_path=file_path), "SourceMissing")
    assert "never_taken.h5" in sentence
    nothing_but(room, file_path)
    assert room.overview(file_path).state is ScanState.FAILED


def test_a_scan_that_may_not_be_read_is_denied(room: Room) -> None:
    file_path = room.scan()
    room.world.facility.collections.set(room.collection("spot832"), deny=[f"*{file_path.rpartition('/')[2]}"])
    failed(room, file_path, room.run(NEW_FILE, file_path=file_path), "AccessDenied")
    nothing_but(room, file_path, "transfer")
    assert not room.file("data832", file_path).exists()


@pytest.mark.slow
def test_a_full_server_is_said_to_be_full_and_the_scan_arrives_when_there_is_space(room: Room) -> None:
    file_path = room.scan()
    room.world.facility.collections.set(room.collection("data832"), full="quota")
    failed(room, file_path, room.run(NEW_FILE, file_path=file_path), "NoSpace")
    assert room.effects(file_path).count("transfer") == 1
    room.calm()
    assert room.run(NEW_FILE, file_path=file_path).completed
    assert room.file("data832", file_path).read_bytes() == room.file("spot832", file_path).read_bytes()


def test_a_byte_that_changes_on_the_way_is_carried_again(room: Room) -> None:
    file_path = room.scan()
    target = f"/data/{file_path.removeprefix('/global/')}"
    room.world.facility.corrupt(room.collection("data832"), target, times=1)
    ended = room.run(NEW_FILE, file_path=file_path)
    assert ended.completed, ended
    assert room.complaints(file_path, NEW_FILE_FLOW) == []
    assert room.file("data832", file_path).read_bytes() == room.file("spot832", file_path).read_bytes()


def test_bytes_that_always_change_on_the_way_are_a_checksum_mismatch(room: Room) -> None:
    file_path = room.scan()
    target = f"/data/{file_path.removeprefix('/global/')}"
    room.world.facility.corrupt(room.collection("data832"), target, times=1000)
    failed(room, file_path, room.run(NEW_FILE, file_path=file_path), "ChecksumMismatch")
    assert room.effects(file_path).count("transfer") == 1
    assert room.overview(file_path).copies == []


def test_a_scan_that_is_still_being_written_has_changed(room: Room) -> None:
    file_path = room.scan()
    room.world.facility.collections.set(room.collection("data832"), bandwidth=20_000.0)
    child = room.start(NEW_FILE, file_path=file_path)
    pause = threading.Event()
    while "transfer" not in room.effects(file_path):
        pause.wait(0.02)
    with room.file("spot832", file_path).open("ab") as file:
        file.write(b"more" * 1000)
    ended = child.wait()
    assert ended.completed or ended.error_type == "SourceChanged", ended
    if ended.completed:  # it was not late: all of it was carried
        assert room.file("data832", file_path).read_bytes() == room.file("spot832", file_path).read_bytes()


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n"], ids=["empty", "text", "cut short"])
def test_a_file_that_is_no_scan_is_carried_and_not_catalogued(room: Room, content: bytes) -> None:
    file_path = room.scan()
    room.file("spot832", file_path).write_bytes(content)
    failed(room, file_path, room.run(NEW_FILE, file_path=file_path), "ScanUnreadable")
    nothing_but(room, file_path, "transfer", "copied")
    assert room.file("data832", file_path).read_bytes() == content


def test_a_scan_that_lost_its_end_is_unreadable(room: Room) -> None:
    file_path = room.scan()
    whole = room.file("spot832", file_path).read_bytes()
    room.file("spot832", file_path).write_bytes(whole[: len(whole) // 2])
    failed(room, file_path, room.run(NEW_FILE, file_path=file_path), "ScanUnreadable")


@pytest.mark.parametrize(
    "path",
    ["/global/../etc/passwd", "../spot832", "raw/../../x.h5", "/etc/passwd", "", "/global/", "raw/new\nline.h5"],
)
@pytest.mark.parametrize("target", [NEW_FILE, LOCAL])
def test_a_path_that_cannot_be_carried_is_refused_before_anything_is_asked(room: Room, path: str, target: str) -> None:
    before = len(room.world.facility.effects())
    ended = room.run(target, file_path=path)
    assert ended.error_type == "InvalidPath", ended
    assert len(room.world.facility.effects()) == before


LONG = "x" * 240 + "of255bytes__.h5"


ALL_AT_ONCE = '-rf $(touch pwned) `x`;&| it\'s "100%#?&=+~" Å試料.h5'


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [ALL_AT_ONCE, LONG],
    ids=["all at once", "long"],
)
def test_a_name_is_carried_whole(room: Room, name: str) -> None:
    file_path = room.scan(name)
    ended = room.run(NEW_FILE, file_path=file_path)
    assert ended.completed, ended
    assert room.file("nersc832", file_path).read_bytes() == room.file("spot832", file_path).read_bytes()


@pytest.mark.slow
def test_a_name_is_reconstructed_whole(room: Room) -> None:
    file_path = room.scan(f"{ALL_AT_ONCE[:-3]} again.h5")
    assert room.run(NEW_FILE, file_path=file_path).completed
    ended = room.run(LOCAL, file_path=file_path)
    assert ended.completed, ended


@pytest.mark.slow
def test_a_name_as_long_as_can_be_is_reconstructed_under_a_shorter_one(room: Room) -> None:
    file_path = room.scan(f"y{LONG[1:]}")
    assert room.run(NEW_FILE, file_path=file_path).completed
    ended = room.run(LOCAL, file_path=file_path)
    assert ended.completed, ended
