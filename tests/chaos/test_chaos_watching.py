"""The flow that watches, in a world with Prefect: disks that fill up, and beamlines that are said to run."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from trial_room import Room

from orchestration.ledger.copy import RAW, CopyState, Role
from orchestration.paths import RelativePath
from orchestration.sandbox.trials.kills import Ended, Kill

WATCH = "orchestration.flows.bl832.watch:watch_copies"


@contextmanager
def settings(room: Room, section: tuple[str, ...], **changes: Any) -> Iterator[None]:
    """The world's config.yml with other values there."""
    file = room.world.layout.config_file
    before = file.read_text()
    document = part = yaml.safe_load(before)
    for key in section:
        part = part[key]
    part |= changes
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    try:
        yield
    finally:
        file.write_text(before)


def watch(room: Room, *, kill: Kill | None = None, dry_run: bool = False) -> Ended:
    """No look and no reading: only the rest."""
    ended = room.run(WATCH, kill=kill, copies=0, samples=0, dry_run=dry_run)
    assert ended.killed or ended.completed, ended
    return ended


def due_in(room: Room, file_path: str, seconds: float) -> None:
    """The copy at the detector."""
    scan = room.overview(file_path).scan
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute(
            "update copies set delete_after = ?, verified_at = verified_at - 300"
            " where scan_id = ? and endpoint = 'spot832'",
            (time.time() + seconds, scan.id),
        )


def at_detector(room: Room, file_path: str) -> bool:
    return room.file("spot832", file_path).exists()


SPOT = ("globus", "globus_endpoints", "spot832")


def test_a_disk_that_is_too_full_loses_what_is_due_and_nothing_else(room: Room) -> None:
    room.keep_copies(0.0)
    due, later = room.moved_scan(), room.moved_scan()
    due_in(room, due, -60)
    due_in(room, later, 600)
    with settings(room, SPOT, keep_free="1"):
        assert watch(room).value["space"] == {}
    assert at_detector(room, due)
    with settings(room, SPOT, keep_free="100%"):
        assert watch(room, dry_run=True).value["space"]["spot832"]["left"] >= 1  # scans of other tests may be due, too
        assert at_detector(room, due)
        ended = watch(room)
    assert not at_detector(room, due)
    assert at_detector(room, later)
    deleted = ended.value["space"]["spot832"]["deleted"]
    assert deleted >= 1
    (alarm,) = [each for each in ended.value["alarms"] if each["subject"] == "space at spot832"]
    assert f"{deleted} copies that were due were deleted" in alarm["text"]


@pytest.mark.slow
def test_a_pass_that_is_killed_while_it_makes_space_deletes_each_copy_once(room: Room) -> None:
    room.keep_copies(0.0)
    file_path = room.moved_scan()
    due_in(room, file_path, -60)
    spared: list[str] = []
    with settings(room, SPOT, keep_free="100%"):
        ended = Ended(killed=True)
        while ended.killed and len(spared) < 60:
            ended = watch(room, kill=Kill(spared=tuple(spared)))
            spared.append(ended.killed_at)
    assert not at_detector(room, file_path)
    assert room.effects(file_path).count("delete") == 1


def test_operators_say_in_prefect_whether_the_beamline_runs(room: Room) -> None:
    room.moved_scan()
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute("update scans set registered_at = registered_at - 36000")
    arrivals = {"within_hours": 0.0001, "running_variable": "bl832-runs"}
    silent = "no scans from bl832"
    with settings(room, ("beamlines", "bl832"), arrivals=arrivals):
        say(room, runs=False)
        assert silent not in subjects(watch(room))
        say(room, runs=True)
        time.sleep(1.0)  # it has run for longer than it may be silent
        assert silent in subjects(watch(room))
        say(room, runs="perhaps")
        assert "should be true or false" in str(watch(room).value["alarms"])


def say(room: Room, *, runs: object) -> None:
    with httpx.Client(base_url=room.world.prefect_url, trust_env=False, timeout=30.0) as client:
        client.delete("/variables/name/bl832-runs")
        client.post("/variables/", json={"name": "bl832-runs", "value": runs}).raise_for_status()


def subjects(ended: Ended) -> list[str]:
    return [each["subject"] for each in ended.value["alarms"]]


REMOTE = "nersc832_alsdev_pscratch_raw"


def at_site(room: Room, file_path: str) -> Path:
    """The scan is at a site, too, which only its collection shows."""
    raw = next(each for each in room.overview(file_path).copies if each.endpoint == "data832")
    path = RelativePath(raw.path.text.removeprefix("raw/"))
    file = room.world.root(REMOTE) / path.text
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(room.file("data832", file_path).read_bytes())
    with room.world.ledger() as ledger:
        values: dict[str, Any] = {
            "dataset": RAW,
            "role": Role.REPLICA,
            "method": "test",
            "verified_by": None,
            "version": raw.version,
        }
        ledger.copies.record(scan_id=raw.scan_id, endpoint=REMOTE, path=path, manifest=raw.manifest, **values)
    return file


def looked(room: Room) -> dict[str, Any]:
    """A new round at the site."""
    with room.world.ledger() as ledger:
        ledger.inventory.begin(REMOTE)
        ledger.inventory.begin_folders(REMOTE)
    ended = room.run(WATCH, copies=1000, samples=0, endpoint=REMOTE)
    assert ended.completed, ended
    found: dict[str, Any] = ended.value
    return found


def state(room: Room, file_path: str) -> CopyState:
    return next(each.state for each in room.overview(file_path).copies if each.endpoint == REMOTE)


@pytest.mark.slow
def test_a_collection_says_what_is_missing_and_one_that_is_silent_says_nothing(room: Room) -> None:
    file_path = room.moved_scan()
    file = at_site(room, file_path)
    assert looked(room)["inventory"]["missing"] == []
    file.rename(file.with_suffix(".lost"))
    room.world.facility.collections.set(room.collection(REMOTE), connected=False)
    assert REMOTE in looked(room)["inventory"]["silent"]
    assert state(room, file_path) is CopyState.PRESENT
    room.calm()
    assert len(looked(room)["inventory"]["missing"]) == 1
    assert state(room, file_path) is CopyState.MISSING
    file.with_suffix(".lost").rename(file)
    assert len(looked(room)["inventory"]["back"]) == 1
    assert state(room, file_path) is CopyState.PRESENT


def test_files_on_a_collection_that_nobody_knows_are_listed(room: Room) -> None:
    file = at_site(room, room.moved_scan())
    stranger = file.parent.parent / "strangers" / "notes.txt"
    stranger.parent.mkdir()
    stranger.write_bytes(bytes(7))
    os.utime(stranger, (1e9, 1e9))
    os.utime(file, (1e9, 1e9))
    with settings(room, ("globus", "globus_endpoints", REMOTE), inventory=True):
        assert looked(room)["unknown"]["with_unknown_files"] > 0
    with room.world.ledger() as ledger:
        found = {each.folder: (each.files, each.size) for each in ledger.inventory.unknown(endpoint=REMOTE)}
    assert found["strangers"] == (1, 7)
    assert file.parent.name not in found
    assert stranger.exists()
