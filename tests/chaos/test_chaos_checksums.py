"""Checksums are computed again where a copy lies: by this machine, and by jobs of the site that has its disk."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from trial_room import NEW_FILE, Room

from orchestration.ledger.copy import RAW, CopyRecord, CopyState, Role
from orchestration.ledger.manifests import COMPARED, FileEvidence
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.paths import RelativePath
from orchestration.sandbox.trials.kills import Ended, Kill

NEW_FILES = "orchestration.flows.bl832.arrivals:new_files_flow"
WATCH = "orchestration.flows.bl832.watch:watch_copies"
RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"
DAY = 24 * 3600.0
REMOTE = "nersc832_alsdev_pscratch_raw"
"""No directory of this machine: NERSC alone sees it."""


@pytest.fixture(autouse=True)
def others_are_not_due(room: Room) -> None:
    """What other tests have left would fill the sample, for as long as nobody has tried to read it."""
    left = "insert or replace into checksum_attempts select id, ?, 'of another test' from copies"
    room.world.ledger().close()  # which makes it, if no other test has
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute(left, (time.time(),))


def read_again(room: Room, endpoint: str, *, kill: Kill | None = None) -> Ended:
    """All copies there that were not read for longest."""
    return room.run(WATCH, kill=kill, copies=0, samples=100, endpoint=endpoint)


def end_the_round(room: Room, endpoint: str) -> None:
    """All copies there were looked at: the next round is weeks away."""
    with room.world.ledger() as ledger:
        ledger.inventory.end(ledger.inventory.round_of(endpoint) or ledger.inventory.begin(endpoint))


def copy_at(room: Room, file_path: str, endpoint: str, dataset: str = "raw") -> CopyRecord:
    (found,) = [
        each for each in room.overview(file_path).copies if (each.endpoint, each.dataset) == (endpoint, dataset)
    ]
    return found


def flip_a_bit(file: Path) -> None:
    """Which no look at its size and time can tell."""
    facts, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def place(copy: CopyRecord) -> str:
    return f"{copy.endpoint}:{copy.path}"


@pytest.mark.slow
def test_a_copy_on_this_machine_is_read_again_and_a_flipped_bit_is_found(room: Room) -> None:
    good, bad = room.moved_scan(), room.moved_scan()
    before = copy_at(room, good, "data832")
    flip_a_bit(room.file("data832", bad))
    ended = read_again(room, "data832")
    assert ended.completed, ended
    after = copy_at(room, good, "data832")
    assert place(after) in ended.value["sample"]["verified"]
    assert after.evidence_at > before.evidence_at
    assert after.verified_at == before.verified_at  # it did not become younger
    changed = copy_at(room, bad, "data832")
    assert changed.state is CopyState.CHANGED
    assert place(changed) in "".join(ended.value["sample"]["changed"])
    assert place(changed) in "".join(alarm["text"] for alarm in ended.value["alarms"])


@pytest.mark.slow
def test_a_look_does_not_make_good_what_a_checksum_found_and_new_checksums_do(room: Room) -> None:
    file_path = room.moved_scan()
    file = room.file("data832", file_path)
    flip_a_bit(file)
    assert read_again(room, "data832").completed
    assert room.run(WATCH, copies=100_000, samples=0, endpoint="data832").completed  # it looks again at what is changed
    assert copy_at(room, file_path, "data832").state is CopyState.CHANGED
    flip_a_bit(file)  # back
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute("update checksum_attempts set at = at - 90000")  # a day ago
    ended = read_again(room, "data832")
    assert copy_at(room, file_path, "data832").state is CopyState.PRESENT, ended


@pytest.mark.slow
def test_what_is_changed_is_carried_anew_when_its_flow_is_started_again(room: Room) -> None:
    file_path = room.moved_scan()
    file = room.file("data832", file_path)
    flip_a_bit(file)
    assert read_again(room, "data832").completed
    assert copy_at(room, file_path, "data832").state is CopyState.CHANGED
    ended = room.run(NEW_FILE, file_path=file_path)
    assert ended.completed, ended
    assert file.read_bytes() == room.file("spot832", file_path).read_bytes()
    assert copy_at(room, file_path, "data832").state is CopyState.PRESENT


@pytest.mark.slow
def test_what_cannot_be_read_is_found_missing_though_its_turn_in_the_round_is_over(room: Room) -> None:
    end_the_round(room, "data832")
    file_path = room.moved_scan()
    room.file("data832", file_path).unlink()
    ended = read_again(room, "data832")
    lost = copy_at(room, file_path, "data832")
    assert lost.state is CopyState.MISSING, ended
    assert place(lost) in ended.value["inventory"]["missing"]
    assert place(lost) in "".join(ended.value["sample"]["failed"])


@pytest.mark.slow
def test_so_is_what_was_carried_with_others(room: Room) -> None:
    scans = [room.scan() for _ in range(3)]
    assert room.run(NEW_FILES, file_paths=[*scans], beamline="bl832").completed
    changed, gone, whole = (room.file("data832", each) for each in scans)
    flip_a_bit(changed)
    gone.unlink()
    assert read_again(room, "data832").completed
    lost = [copy_at(room, each, "data832").state for each in scans]
    assert lost == [CopyState.CHANGED, CopyState.MISSING, CopyState.PRESENT]
    before = copy_at(room, scans[2], "data832").verified_at
    ended = room.run(NEW_FILES, file_paths=[*scans[:2]], beamline="bl832")
    assert ended.completed, ended
    for file_path, file in zip(scans, (changed, gone, whole), strict=True):
        assert file.read_bytes() == room.file("spot832", file_path).read_bytes()
        assert copy_at(room, file_path, "data832").state is CopyState.PRESENT
    assert copy_at(room, scans[2], "data832").verified_at == before


def at_site(room: Room, file_path: str, checksum: str = "") -> Path:
    """The scan is at the site as well, with its own checksum or another kind of evidence."""
    raw = copy_at(room, file_path, "data832")
    content = room.file("data832", file_path).read_bytes()
    path = RelativePath(raw.path.text.removeprefix("raw/"))
    file = room.world.root(REMOTE) / path.text
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    with room.world.ledger() as ledger:
        ledger.copies.record(
            scan_id=raw.scan_id,
            dataset=RAW,
            endpoint=REMOTE,
            path=path,
            role=Role.REPLICA,
            manifest=[FileEvidence(path="", size=len(content), checksum=checksum or raw.manifest[0].checksum)],
            method="test",
            verified_by=None,
            version=raw.version,
        )
    return file


def forget_checksums(room: Room, file_path: str, *endpoints: str) -> None:
    """As where a service has compared files and tells no checksum."""
    with room.world.ledger() as ledger:
        for copy in (copy_at(room, file_path, endpoint) for endpoint in endpoints):
            ledger.copies.record(
                scan_id=copy.scan_id,
                dataset=copy.dataset,
                endpoint=copy.endpoint,
                path=copy.path,
                role=copy.role,
                manifest=[replace(copy.manifest[0], checksum=f"{COMPARED}:task")],
                method="globus checksum",
                verified_by=copy.verified_by,
                version=copy.version,
            )


def jobs(room: Room, file_path: str) -> list[OperationRecord]:
    """Those that read the copy at the site."""
    return [each for each in room.overview(file_path).operations if f"at {REMOTE}, last seen" in each.step]


@pytest.mark.slow
def test_a_job_at_the_site_reads_what_only_the_site_sees(room: Room) -> None:
    good, bad = room.moved_scan(), room.moved_scan()
    at_site(room, good)
    flip_a_bit(at_site(room, bad))
    ended = read_again(room, REMOTE)
    assert ended.completed, ended
    assert place(copy_at(room, good, REMOTE)) in ended.value["sample"]["verified"], ended
    assert copy_at(room, good, REMOTE).checked_at is not None
    assert copy_at(room, bad, REMOTE).state is CopyState.CHANGED
    assert [each.service for each in jobs(room, good)] == ["nersc.jobs@nersc"]


def answer(job: OperationRecord) -> Path:
    outputs = job.request["outputs"]
    assert isinstance(outputs, list)
    assert isinstance(outputs[0], dict)
    return Path(str(outputs[0]["path"]))


@pytest.mark.slow
def test_answers_go_when_their_operations_are_long_over(room: Room) -> None:
    old, young = room.moved_scan(), room.moved_scan()
    for each in (old, young):
        at_site(room, each)
    assert read_again(room, REMOTE).completed
    assert read_again(room, "data832").completed
    answers = [answer(job) for each in (old, young) for job in jobs(room, each)]
    foreign = answers[0].with_name("notes.json")
    foreign.write_text("{}")
    here = sorted((room.world.layout.root / "state" / "checksums").glob("*.json"))
    os.utime(here[0], (time.time() - 40 * DAY, time.time() - 40 * DAY))
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        (job,) = jobs(room, old)
        database.execute("update operations set finished_at = finished_at - ? where key = ?", (40 * DAY, job.key))
    assert room.run(RECONCILE).completed
    assert [path.exists() for path in (*answers, foreign)] == [False, True, True]
    assert [path.exists() for path in here] == [False, *[True] * (len(here) - 1)]


@pytest.mark.slow
def test_of_three_copies_without_checksums_the_odd_one_is_changed(room: Room) -> None:
    file_path = room.moved_scan()
    flip_a_bit(at_site(room, file_path, f"{COMPARED}:task"))
    forget_checksums(room, file_path, "spot832", "data832", "nersc832")
    assert read_again(room, REMOTE).completed
    states = {each.endpoint: each.state for each in room.overview(file_path).copies}
    assert states.pop(REMOTE) is CopyState.CHANGED
    assert set(states.values()) == {CopyState.PRESENT}


@pytest.mark.slow
def test_of_two_copies_that_differ_neither_is_to_be_the_last(room: Room) -> None:
    file_path = room.moved_scan()
    flip_a_bit(at_site(room, file_path, f"{COMPARED}:task"))
    forget_checksums(room, file_path, "data832")
    with room.world.ledger() as ledger:
        for endpoint in ("spot832", "nersc832"):
            ledger.copies.found(copy_at(room, file_path, endpoint), CopyState.MISSING)
    assert read_again(room, REMOTE).completed
    assert [copy_at(room, file_path, each).state for each in (REMOTE, "data832")] == [CopyState.CHANGED] * 2


@pytest.mark.slow
def test_a_run_that_reads_is_killed_again_and_again_and_no_job_runs_twice(room: Room) -> None:
    file_path = room.moved_scan()
    at_site(room, file_path)
    spared: list[str] = []
    while len(spared) < 30:
        ended = read_again(room, REMOTE, kill=Kill(spared=tuple(spared), nth=3))
        if not ended.killed:
            break
        spared += [name for name in ended.boundaries if name not in spared]
    assert len(spared) > 5
    assert read_again(room, REMOTE).completed
    # One for each time at which it was seen last, and none of them twice.
    assert {(each.attempt, each.state) for each in jobs(room, file_path)} == {(1, OperationState.SUCCEEDED)}
    assert copy_at(room, file_path, REMOTE).checked_at is not None
