"""What jobs of the archive leave at NERSC goes when nothing more of it is wanted, and nothing else does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from archive_room import ARCHIVE, Room

from orchestration.config import NerscSite
from orchestration.ledger.operation import OperationRecord
from orchestration.sandbox.trials.kills import Kill

RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"


def log_folder(room: Room) -> Path:
    archive = room.world.settings().archive(ARCHIVE)
    site = room.world.settings().site(archive.site)
    assert isinstance(site, NerscSite)
    return Path(site.below_root(archive.log_folder))


def age(room: Room, project: str, *, days: float = 40.0) -> None:
    """All that was done for it ended that many days earlier."""
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        query = "update operations set finished_at = finished_at - ? where scan_id = ?"
        database.execute(query, (days * 86_400, room.folder(project).id))


def jobs(room: Room, project: str, name: str) -> list[OperationRecord]:
    return [each for each in room.operations(project) if each.step.startswith(f"{name} ")]


def directories(room: Room, project: str, *names: str) -> list[Path]:
    found = [Path(str(each.request["directory"])) for name in names for each in jobs(room, project, name)]
    return sorted(path for path in found if path.exists())


def plans(room: Room, project: str) -> list[Path]:
    """Those by which its bundles are stored, and where that is done."""
    words = [str(word) for each in jobs(room, project, "store") for word in each.request["arguments"]]  # type: ignore[union-attr]
    digests = [word.removeprefix("--plan=") for word in words if word.startswith("--plan=")]
    folder = log_folder(room) / "plans"
    paths = [path for each in digests for path in (folder / f"{each}.plan.json", folder / each[:32])]
    return sorted(path for path in paths if path.exists())


def reconcile(room: Room) -> None:
    ended = room.nursery.run(RECONCILE, {})
    assert ended.completed, ended


def before_storing(project: str) -> Kill:
    return Kill(at=f"before-reserve of store {project}/{project}_2026-1.tar at {ARCHIVE}")


def stored(room: Room) -> str:
    project = room.project()
    room.scan(project, "a.h5", b"a")
    assert room.store(project).completed
    return project


@pytest.mark.slow
def test_what_was_stored_and_written_down_leaves_nothing_when_it_is_long_over(room: Room) -> None:
    old, young = stored(room), stored(room)
    foreign = log_folder(room) / "store-notes.txt"
    foreign.write_text("by hand")
    assert len(directories(room, old, "survey", "store")) == len(plans(room, old)) == 2
    age(room, old)
    reconcile(room)
    assert directories(room, old, "survey", "store") == plans(room, old) == []
    assert len(directories(room, young, "survey", "store")) == len(plans(room, young)) == 2
    assert foreign.exists()
    room.file(old, b"b.h5", b"b")
    assert room.store(old).value["stored"] == [f"{old}/{old}_2026-1_part2.tar"]


@pytest.mark.slow
def test_a_list_that_was_not_read_yet_stays_until_it_is(room: Room) -> None:
    other, project = room.project(), room.project()
    room.file(other, b"a.h5", b"a")
    recording = next(each for each in room.store(other).boundaries if each.startswith("before-write of copies"))
    scan = room.scan(project, "a.h5", b"a")
    assert room.store(project, kill=Kill(at=recording.replace(other, project))).killed
    age(room, project)
    reconcile(room)
    (left,) = directories(room, project, "store")
    assert (left / "manifest.json.gz").exists()
    assert room.store(project).completed
    assert len(room.copies(scan)) == 1
    reconcile(room)
    assert directories(room, project, "store") == []


@pytest.mark.slow
def test_a_plan_that_was_made_again_stays(room: Room) -> None:
    project = room.project()
    room.scan(project, "a.h5", b"a")
    assert room.store(project, kill=before_storing(project)).killed
    (wanted,) = plans(room, project)
    age(room, project)
    reconcile(room)
    assert plans(room, project) == [wanted], "its bundle is about to be stored"
    assert room.store(project).completed


@pytest.mark.slow
def test_what_was_planned_long_ago_is_planned_anew(room: Room) -> None:
    project = room.project()
    room.scan(project, "a.h5", b"a")
    assert room.store(project, kill=before_storing(project)).killed
    (before,) = plans(room, project)
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        (store,) = jobs(room, project, "store")
        database.execute("delete from events where operation_key = ?", (store.key,))
        database.execute("delete from operations where key = ?", (store.key,))
    age(room, project)
    reconcile(room)
    assert not before.exists()
    assert room.store(project).completed
    assert len(jobs(room, project, "survey")) == 2
