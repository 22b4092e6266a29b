"""From tape back to NERSC's file system: whole bundles, chosen members, single files."""

from __future__ import annotations

import shutil

import pytest
from archive_room import SOURCE, Room

from orchestration.errors import InvalidInput, JobFailed, UnknownName
from orchestration.ledger.copy import CopyState, Role
from orchestration.sandbox.trials.trees import tree

FETCH = "orchestration.flows.bl832.retrieve:hpss_to_cfs_flow"
REMOVE = "orchestration.flows.bl832.unarchive:prune_hpss_endpoint"

HOSTILE = (
    b"plain.h5",
    b"with space.h5",
    b"q'\"uote $(touch pwned);.h5",
    b"-rf.h5",
    b"not-utf8-\xff.h5",
    b"new\nline.h5",
)


def bundle_of(project: str) -> str:
    return f"/global/raw/{project}/{project}_2026-1.tar"


@pytest.mark.slow
def test_a_proposal_with_hostile_names_comes_back_byte_for_byte(room: Room) -> None:
    project = room.project()
    for name in (*HOSTILE, b"deep/" * 20 + "ünïcode 光.h5".encode()):
        room.file(project, name, name * 50)
    folder = room.cfs / "raw" / project
    before = tree(folder)
    stored = room.store(project)
    assert stored.completed, stored
    assert len(stored.value["stored"]) == 2  # the name with a newline is stored by itself
    shutil.rmtree(folder)
    for each in stored.value["stored"]:
        ended = room.run(FETCH, f"/global/raw/{each}")
        assert ended.completed, ended
    assert tree(folder) == before


@pytest.mark.slow
def test_a_name_that_is_no_members_is_refused_before_anything_is_asked(room: Room) -> None:
    project = room.project()
    room.file(project, b"scan one.h5", b"1")
    assert room.store(project).completed
    jobs = len(room.operations(project))
    ended = room.run(FETCH, bundle_of(project), members=["scan one.h5", "scan two.h5"])
    assert isinstance(ended.error, UnknownName)
    assert "'scan two.h5' is no member" in ended.error.what
    assert f"{project}/scan one.h5" in ended.error.what
    assert isinstance(room.run(FETCH, f"/global/raw/{project}/none.h5").error, UnknownName)
    assert isinstance(room.run(FETCH, f"/global/raw/{project}/{project}_2025-1.tar").error, UnknownName)
    assert isinstance(room.run(FETCH, bundle_of(project), destination="spot832").error, InvalidInput)
    assert len(room.operations(project)) == jobs


@pytest.mark.slow
def test_chosen_members_come_back_and_count_as_copies_again(room: Room) -> None:
    project = room.project()
    scan = room.scan(project, "scan one.h5", b"1" * 100)
    other = room.scan(project, "scan two.h5", b"2" * 100)
    assert room.store(project).completed
    for each in (scan, other):
        (room.cfs / each.path.text).unlink()
        with room.world.ledger() as ledger:
            (copy,) = room.copies(each, SOURCE)
            ledger.copies.deleted(copy)
    ended = room.run(FETCH, bundle_of(project), members=["scan one.h5"])
    assert ended.completed, ended
    assert (room.cfs / scan.path.text).read_bytes() == b"1" * 100
    assert not (room.cfs / other.path.text).exists()
    (copy,) = room.copies(scan, SOURCE)
    assert (copy.state, copy.role, copy.generation) == (CopyState.PRESENT, Role.REPLICA, 2)
    assert [each.state for each in room.copies(other, SOURCE)] == [CopyState.DELETED]
    # By the path that acquisition knows, wherever it is stored; and once more, after it was lost again.
    assert room.run(FETCH, f"/global/{other.path}").completed
    (room.cfs / other.path.text).unlink()
    assert room.run(FETCH, f"/global/{other.path}").completed
    assert (room.cfs / other.path.text).read_bytes() == b"2" * 100


@pytest.mark.slow
def test_what_was_fetched_of_an_earlier_object_of_that_name_is_no_copy_of_the_next(room: Room) -> None:
    project = room.project()
    scan = room.scan(project, "scan.h5", b"1" * 100)
    file = room.cfs / scan.path.text
    assert room.store(project).completed
    assert room.run(FETCH, bundle_of(project)).completed
    room.settle({}, tape=True)
    assert room.run(REMOVE, bundle_of(project), dry_run=False).completed
    room.scan(project, "scan.h5", b"2" * 100)  # taken again, in the same size
    assert room.store(project).completed
    file.write_bytes(b"1" * 100)  # somebody puts the first one back
    ended = room.run(FETCH, bundle_of(project))
    assert isinstance(ended.error, JobFailed), ended
    assert ended.error.cause == "DestinationTaken"
    file.unlink()
    assert room.run(FETCH, bundle_of(project)).completed
    assert file.read_bytes() == b"2" * 100


@pytest.mark.slow
def test_other_bytes_in_the_place_of_a_file_stay(room: Room) -> None:
    project = room.project()
    file = room.file(project, b"scan.h5", b"stored")
    assert room.store(project).completed
    file.write_bytes(b"newer")
    ended = room.run(FETCH, bundle_of(project))
    assert isinstance(ended.error, JobFailed)
    assert ended.error.cause == "DestinationTaken"
    assert file.read_bytes() == b"newer"


@pytest.mark.slow
def test_what_was_found_changed_since_it_was_fetched_is_not_said_to_be_there(room: Room) -> None:
    project = room.project()
    scan = room.scan(project, "scan one.h5", b"1" * 100)
    assert room.store(project).completed
    assert room.run(FETCH, bundle_of(project)).completed
    (room.cfs / scan.path.text).write_bytes(b"2" * 100)
    with room.world.ledger() as ledger:
        (copy,) = room.copies(scan, SOURCE)
        ledger.copies.found(copy, CopyState.CHANGED, why="its checksums are not what they were", by_checksum=True)
    assert isinstance(room.run(FETCH, bundle_of(project)).error, JobFailed)
    (room.cfs / scan.path.text).unlink()
    assert room.run(FETCH, bundle_of(project)).completed
    assert [each.state for each in room.copies(scan, SOURCE)] == [CopyState.PRESENT]


@pytest.mark.slow
def test_what_was_damaged_on_tape_is_not_brought(room: Room) -> None:
    project = room.project()
    file = room.file(project, b"scan.h5", b"precious bytes" * 10)
    assert room.store(project).completed
    file.unlink()
    room.flip(f"{project}/{project}_2026-1.tar", b"precious")
    ended = room.run(FETCH, bundle_of(project))
    assert isinstance(ended.error, JobFailed)
    assert ended.error.cause == "MemberDamaged"
    assert not file.exists()
