"""Datasets that are folders of one file, which is too large for a bundle and lies on tape by itself."""

from __future__ import annotations

import pytest
from archive_room import ARCHIVE, SOURCE, Room

from orchestration.errors import DeletionUnproven
from orchestration.ledger.copy import CopyState

BYTES = b"one large file " * 100
FETCH = "orchestration.flows.bl832.retrieve:hpss_to_cfs_flow"
REMOVE = "orchestration.flows.bl832.unarchive:prune_hpss_endpoint"


@pytest.mark.slow
def test_a_folder_of_one_file_that_is_stored_by_itself_is_proved_deleted_and_brought_back(room: Room) -> None:
    room.settle({"member_limit": 100})
    project = room.project()
    scan = room.scan(project, "scan 1", BYTES, inside="all data.h5")
    assert room.store(project).completed
    on_tape = f"{project}/scan%201/all%20data.h5"
    assert [copy.path.text for copy in room.copies(scan)] == [on_tape]
    here = room.cfs / scan.path.text
    ended = room.prune(scan)
    assert ended.completed, ended
    assert not here.exists()
    assert [copy.state for copy in room.copies(scan, SOURCE)] == [CopyState.DELETED]
    ended = room.run(FETCH, f"/global/raw/{project}/scan%201/all%20data.h5")
    assert ended.completed, ended
    assert (here / "all data.h5").read_bytes() == BYTES
    (back,) = room.copies(scan, SOURCE)
    assert (back.state, back.path, back.manifest[0].path) == (CopyState.PRESENT, scan.path, "all data.h5")
    room.settle({}, tape=True)
    ended = room.run(REMOVE, f"/global/raw/{on_tape}", dry_run=False)
    assert ended.completed, ended
    assert not room.stored(project)
    assert {copy.state for copy in room.copies(scan, ARCHIVE)} == {CopyState.DELETED}


@pytest.mark.slow
def test_one_that_is_not_on_tape_as_it_was_stored_proves_nothing(room: Room) -> None:
    room.settle({"member_limit": 100})
    project = room.project()
    scan = room.scan(project, "scan", BYTES, inside="data.h5")
    assert room.store(project).completed
    stored = room.tape / project / "scan" / "data.h5"
    stored.write_bytes(BYTES[:-1])
    assert isinstance(room.prune(scan).error, DeletionUnproven)
    assert (room.cfs / scan.path.text / "data.h5").read_bytes() == BYTES
