"""The inventory marks what is missing or changed, marks nothing where nobody answers, and goes on where it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from watch_room import Clock, Room

from orchestration.ledger.copy import CopyState
from orchestration.ledger.operation import Operation
from orchestration.transfers import DeleteRequest


def test_what_is_whole_stays_present_and_raises_no_alarm(room: Room) -> None:
    copies = [room.put("server", "raw/a.h5"), room.put("archive", "rec/a", {"1.tiff": b"1", "deep/2.tiff": b"22"})]
    looks, alarms = room.look()
    assert looks.looked == 2
    assert [room.state(copy) for copy in copies] == [CopyState.PRESENT] * 2
    assert alarms.raised == []


def test_a_copy_that_is_not_there_is_missing_and_present_again_when_it_is_back(room: Room) -> None:
    copy = room.put("server", "raw/a.h5")
    file = room.file("server", "raw/a.h5")
    file.rename(file.with_name("elsewhere"))
    looks, alarms = room.look()
    assert looks.news(CopyState.MISSING) == ["server:raw/a.h5"]
    assert room.state(copy) is CopyState.MISSING
    assert "1 copies are missing: server:raw/a.h5" in alarms.raised[0].text
    again, alarms = room.look()
    assert again.found == {}
    assert alarms.raised == []  # no news
    file.with_name("elsewhere").rename(file)
    back, _ = room.look()
    assert back.news(CopyState.PRESENT) == ["server:raw/a.h5"]
    assert room.state(copy) is CopyState.PRESENT
    assert room.ledger.inventory.findings() == []


def test_a_file_of_another_size_or_time_or_one_that_is_lacking_makes_a_copy_changed(room: Room) -> None:
    longer, later, lacking, more = [
        room.put("server", f"rec/{name}", {"1.tiff": b"1", "2.tiff": b"22"})
        for name in ("longer", "later", "lacking", "more")
    ]
    file = room.file("server", "rec/longer/1.tiff")
    file.write_bytes(b"123")
    os.utime(file, (time.time() - 3600, time.time() - 3600))
    os.utime(room.file("server", "rec/later/1.tiff"), (time.time() + 3600, time.time() + 3600))
    room.file("server", "rec/lacking/2.tiff").unlink()
    room.file("server", "rec/more/3.tiff").write_bytes(b"3")
    room.look()
    assert [room.state(copy) for copy in (longer, later, lacking, more)] == [CopyState.CHANGED] * 4
    whys = {found.path: found.why for found in room.ledger.inventory.findings()}
    assert whys["rec/later"] == "it was changed after it was verified"
    assert whys["rec/lacking"] == "its files are not those that were verified"


def test_a_folder_without_its_files_is_missing(room: Room) -> None:
    copy = room.put("server", "rec/a", {"1.tiff": b"1"})
    room.file("server", "rec/a/1.tiff").unlink()
    room.look()
    assert room.state(copy) is CopyState.MISSING


def test_an_endpoint_that_is_not_there_marks_nothing_and_keeps_no_other_from_its_turn(room: Room) -> None:
    lost, other = room.put("server", "raw/a.h5"), room.put("archive", "raw/b.h5")
    room.file("archive", "raw/b.h5").unlink()
    shutil.move(room.folder / "server", room.folder / "unplugged")
    looks, alarms = room.look()
    assert room.state(lost) is CopyState.PRESENT
    assert room.state(other) is CopyState.MISSING
    assert list(looks.silent) == ["server"]
    assert any(alarm.subject == "endpoint server" for alarm in alarms.raised)


def test_a_disk_that_is_not_mounted_leaves_an_empty_folder_and_marks_nothing(room: Room) -> None:
    copies = [room.put("server", f"raw/{number}.h5") for number in range(3)]
    shutil.move(room.folder / "server", room.folder / "unmounted")
    (room.folder / "server").mkdir()
    looks, _ = room.look()
    assert "not mounted" in looks.silent["server"]
    assert {room.state(copy) for copy in copies} == {CopyState.PRESENT}
    shutil.rmtree(room.folder / "server")
    shutil.move(room.folder / "unmounted", room.folder / "server")
    looks, _ = room.look()  # the same round goes on
    assert looks.looked == 3


def test_passes_go_on_where_the_last_has_ended_and_a_round_looks_at_each_copy_once(room: Room, clock: Clock) -> None:
    for number in range(5):
        room.put("server", f"raw/{number}.h5")
        room.put("archive", f"raw/{number}.h5")
    looked = [room.look(copies=4)[0].looked for _ in range(4)]
    assert looked == [4, 4, 2, 0]
    clock.days(31)
    assert room.look()[0].looked == 10


def test_a_pass_without_time_looks_at_nothing(room: Room) -> None:
    room.put("server", "raw/a.h5")
    assert room.look(seconds=-1.0)[0].looked == 0
    assert room.look()[0].looked == 1


def test_a_round_that_takes_longer_than_it_may_is_an_alarm(make_room: Callable[..., Room], clock: Clock) -> None:
    room = make_room(watch={"days": 2})
    for number in range(3):
        room.put("server", f"raw/{number}.h5")
    assert room.look(copies=1)[1].raised == []
    clock.days(3)
    looks, alarms = room.look(copies=1)
    assert looks.behind == ["server"]
    assert "2 of 3 copies were looked at in 2 days" in alarms.raised[0].text


def test_what_is_in_use_is_passed_over(room: Room) -> None:
    """A copy that is being carried anew is half written, and no less verified in a minute."""
    copy = room.put("server", "raw/a.h5")
    scan = room.ledger.scans.get(copy.scan_id)
    endpoint = room.work.settings.endpoint("server")
    request = DeleteRequest(endpoint=endpoint, paths=(copy.path,))
    operation = Operation(scan=scan, step="carry", request=request, destination=endpoint.place, deadline=60.0)
    room.ledger.operations.plan(operation, service="local.transfer")
    room.file("server", "raw/a.h5").write_bytes(b"half")
    os.truncate(room.file("server", "raw/a.h5"), 1)
    room.look()
    assert room.state(copy) is CopyState.PRESENT


def test_what_was_verified_anew_since_it_was_read_is_not_marked(room: Room) -> None:
    before = room.put("server", "raw/a.h5")
    room.put("server", "raw/a.h5")
    assert not room.ledger.copies.found(before, CopyState.MISSING)
    assert room.state(before) is CopyState.PRESENT


def test_one_copy_that_cannot_be_looked_at_keeps_no_other_from_it(room: Room) -> None:
    room.put("server", "raw/a.h5")
    missing = room.put("server", "raw/b.h5")
    room.file("server", "raw/a.h5").unlink()
    room.file("server", "raw/a.h5").symlink_to("/etc/passwd")
    room.file("server", "raw/b.h5").unlink()
    looks, alarms = room.look()
    assert len(looks.doubtful) == 1
    assert room.state(missing) is CopyState.MISSING
    assert "cannot be looked at" in alarms.raised[0].subject


@pytest.mark.slow
def test_a_pass_that_is_killed_anywhere_has_done_what_it_has_done(
    make_room: Callable[..., Room], tmp_path: Path
) -> None:
    room = make_room()
    copies = [room.put("server", f"raw/{number}.h5") for number in range(3)]
    room.file("server", "raw/1.h5").unlink()
    kills = 1
    while killed_at(kills, tmp_path):
        kills += 1
    assert kills > 3
    assert [room.state(copy) for copy in copies] == [CopyState.PRESENT, CopyState.MISSING, CopyState.PRESENT]
    found = room.ledger.inventory.round_of("server")
    assert found is not None
    assert found.looked == 3
    assert found.ended_at is not None


def killed_at(number: int, folder: Path) -> bool:
    """A pass in a process of its own, killed at its boundary of that number, if it reaches it."""
    command = [sys.executable, "-c", PASS, str(folder), str(number)]
    ended = subprocess.run(command, check=False, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert ended.returncode in {0, -9}, ended.stderr
    return ended.returncode == -9


PASS = """
import os, signal, sys
from pathlib import Path
from watch_room import Clock, Room
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import listening

folder, left = Path(sys.argv[1]), int(sys.argv[2])

def heard(boundary, subject):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

with Ledger(f"sqlite:///{folder / 'ledger.sqlite'}") as ledger:
    room = Room.at(folder, ledger, Clock())
    with listening(heard):
        room.look()
"""
