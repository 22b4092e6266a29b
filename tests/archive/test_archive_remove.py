"""Bundles leave the tape whole, when all of each is proved elsewhere; the catalogue knows where data is until then."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from archive_room import ARCHIVE, SOURCE, Room

from orchestration.errors import DeletionUnproven, InvalidInput
from orchestration.flows.cataloguing import raw_identity
from orchestration.ledger.copy import CopyState
from orchestration.ledger.service import Json
from orchestration.sandbox.trials.kills import Ended, Kill
from orchestration.scicat import dataset_pid

REMOVE = "orchestration.flows.bl832.unarchive:prune_hpss_endpoint"
NEW_FILE = "orchestration.flows.bl832.move:process_new_832_file_flow"


def remove(room: Room, project: str, *, kill: Kill | None = None, dry_run: bool = False) -> Ended:
    path = f"/global/raw/{project}/{project}_2026-1.tar"
    return room.run(REMOVE, path, kill=kill, dry_run=dry_run)


def archived(room: Room, *, besides: bool = False) -> str:
    """A proposal with two scans on disk and on tape; and, `besides`, a file that is no scan."""
    project = room.project()
    for name in ("one.h5", "two.h5"):
        room.scan(project, name, name.encode() * 100)
    if besides:
        room.file(project, b"notes.txt", b"by hand")
    stored = room.store(project)
    assert stored.completed, stored
    return project


@pytest.mark.slow
def test_a_bundle_goes_only_when_all_of_it_is_proved_elsewhere(room: Room) -> None:
    project = archived(room)
    assert isinstance(remove(room, project).error, DeletionUnproven)  # no rule lets anything go from tape
    room.settle({}, tape=True)
    would = remove(room, project, dry_run=True)
    assert would.value["would be removed"], would
    assert len(room.stored(project)) == 3
    (room.cfs / "raw" / project / "two.h5").unlink()
    refused = remove(room, project)
    assert isinstance(refused.error, DeletionUnproven)
    assert len(room.stored(project)) == 3
    room.file(project, b"two.h5", b"two.h5" * 100)
    ended = remove(room, project)
    assert ended.completed, ended
    assert not room.stored(project)
    states = {copy.state for copy in room.copies(room.folder(project))}
    assert states == {CopyState.DELETED}
    assert isinstance(remove(room, project).error, DeletionUnproven)
    # What was removed is stored again when it is asked for again.
    assert room.store(project).completed
    assert len(room.stored(project)) == 3


@pytest.mark.slow
def test_what_only_tape_has_and_single_members_stay(room: Room) -> None:
    project = archived(room, besides=True)
    room.settle({}, tape=True)
    ended = remove(room, project)
    assert isinstance(ended.error, DeletionUnproven)
    assert "notes.txt" in ended.error.what
    member = f"/global/raw/{project}/{project}_2026-1.tar/{project}/one.h5"
    assert isinstance(room.run(REMOVE, member, dry_run=False).error, InvalidInput)
    words: dict[str, Json] = {"relative_path": f"{project}/{project}_2026-1.tar", "dry_run": False}
    general = "orchestration.flows.bl832.prune:prune_globus_endpoint"
    other = room.nursery.run(general, {**words, "source_endpoint": ARCHIVE})
    assert isinstance(other.error, InvalidInput)
    assert len(room.stored(project)) == 3


@pytest.mark.slow
def test_a_damaged_bundle_is_removed_and_stored_anew_from_what_is_on_disk(room: Room) -> None:
    room.settle({}, always=True)
    project = archived(room)
    room.flip(f"{project}/{project}_2026-1.tar", b"one.h5" * 50)
    scan = room.known(project, "one.h5")
    assert isinstance(room.prune(scan).error, DeletionUnproven)
    room.settle({}, tape=True)
    assert remove(room, project).completed
    assert room.store(project).completed
    assert [copy.state for copy in room.copies(scan)] == [CopyState.PRESENT]
    room.settle({}, always=True)
    assert room.prune(scan).completed


@pytest.mark.slow
@pytest.mark.parametrize("at", ["before-submit", "after-submit", "after-write of copies"])
def test_a_removal_that_was_killed_is_carried_on_with(room: Room, at: str) -> None:
    project = archived(room)
    scans = [room.known(project, name) for name in ("one.h5", "two.h5")]
    room.settle({}, tape=True)
    step = f"remove {project}/{project}_2026-1.tar from {ARCHIVE}"
    where = f"{at}, after {step}" if at.startswith("after-write") else f"{at} of {step}"
    assert remove(room, project, kill=Kill(at=where)).killed
    ended = remove(room, project)
    assert ended.completed, ended
    assert not room.stored(project)
    left = {copy.state for scan in (*scans, room.folder(project)) for copy in room.copies(scan)}
    assert left == {CopyState.DELETED}
    removals = [each for each in room.operations(project) if each.step == step]
    assert [each.attempt for each in removals] == [1]


@pytest.mark.slow
def test_a_removal_that_was_killed_before_it_was_asked_for_needs_a_new_proof(room: Room) -> None:
    project = archived(room)
    scan = room.known(project, "one.h5")
    room.settle({}, tape=True)
    step = f"remove {project}/{project}_2026-1.tar from {ARCHIVE}"
    assert remove(room, project, kill=Kill(at=f"before-submit of {step}")).killed
    with room.world.ledger() as ledger:
        ledger.holds.place(scan.id, why="paper under review", who="ada", until=None)
    refused = remove(room, project)
    assert isinstance(refused.error, DeletionUnproven), refused
    assert "paper under review" in refused.error.what
    assert len(room.stored(project)) == 3
    assert {copy.state for copy in (*room.copies(scan), *room.copies(room.folder(project)))} == {CopyState.PRESENT}
    with room.world.ledger() as ledger:
        ledger.holds.release(scan.id, who="ada")
    ended = remove(room, project)
    assert ended.completed, ended
    assert not room.stored(project)


@pytest.mark.slow
def test_the_catalogue_says_where_a_scan_is_archived_until_it_is_no_more(room: Room) -> None:
    project = room.project()
    file_path = room.world.scan("catalogued.h5", folder=project)
    moved = room.run(NEW_FILE, file_path)
    scan = room.known(project, "catalogued.h5")
    assert moved.completed, moved
    assert room.store(project).completed
    (copy,) = room.copies(scan)
    pid = dataset_pid(raw_identity(scan.id), prefix="")
    (block,) = places(room, pid)
    root = room.world.settings().archive(ARCHIVE).root
    assert block["archiveId"] == f"hpss://archive.nersc.gov{root}/{copy.path.text.split('.tar')[0]}.tar"
    assert [file["path"] for file in block["dataFileList"]] == [f"{project}/catalogued.h5"]
    room.settle({}, tape=True)
    ended = room.run(REMOVE, f"/global/raw/{copy.path.text.split('.tar')[0]}.tar", dry_run=False)
    assert ended.completed, ended
    (block,) = places(room, pid)
    assert block["archiveId"].startswith("removed:hpss://")
    assert block["dataFileList"] == []
    assert [each.endpoint for each in room.copies(scan, SOURCE)] == [SOURCE]


def places(room: Room, pid: str) -> list[dict[str, Any]]:
    url = f"{room.world.facility_url}/scicat/api/v3"
    with httpx.Client(trust_env=False, verify=False) as http:
        words = room.world.environment
        login = {"username": words["SCICAT_INGEST_USER"], "password": words["SCICAT_INGEST_PASSWORD"]}
        token = http.post(f"{url}/auth/login", json=login).raise_for_status().json()["access_token"]
        found = http.get(f"{url}/datasets/{pid}/datablocks", headers={"Authorization": f"Bearer {token}"})
        blocks: list[dict[str, Any]] = found.raise_for_status().json()
        return blocks
