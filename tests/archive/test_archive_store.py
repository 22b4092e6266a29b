"""From a folder at NERSC to tape, by the flow, a queue of xfer jobs and the stand-ins of hsi and htar."""

from __future__ import annotations

import hashlib

import pytest
from archive_room import AUGUST_2026, SOURCE, Room

from orchestration.errors import BatchIncomplete, ExportControlled, InvalidInput, JobFailed
from orchestration.ledger.copy import Role
from orchestration.sandbox.trials.kills import Kill, kinds


def bundle_of(project: str, cycle: str = "2026-1") -> str:
    return f"{project}_{cycle}.tar"


def beside(name: str) -> set[str]:
    return {name, f"{name}.idx", f"{name}.manifest.json"}


def test_a_proposal_goes_to_tape_and_the_ledger_knows_where_each_scan_is(room: Room) -> None:
    project = room.project()
    scan = room.scan(project, "scan 1.h5", b"raw data" * 100)
    room.file(project, b"notes \xff\n.txt", b"by hand")
    room.file(project, b"later.h5", b"later", at=AUGUST_2026)
    ended = room.store(project)
    assert ended.completed, ended
    bundle, later = bundle_of(project), bundle_of(project, "2026-2")
    odd = "notes%20%FF%0A.txt"
    assert room.stored(project) == beside(bundle) | beside(later) | {odd, f"{odd}.manifest.json"}
    (copy,) = room.copies(scan)
    assert (copy.role, copy.dataset, copy.version) == (Role.ARCHIVE, "raw", scan.fingerprint)
    assert copy.path.text == f"{project}/{bundle}/{project}/scan 1.h5"
    assert copy.manifest[0].checksum == f"sha256:{hashlib.sha256(b'raw data' * 100).hexdigest()}"
    assert "read back" in copy.method
    objects = {each.path.text: [file.path for file in each.manifest] for each in room.copies(room.folder(project))}
    assert objects == {
        f"{project}/{bundle}": [f"{project}/scan 1.h5"],
        f"{project}/{later}": [f"{project}/later.h5"],
        f"{project}/{odd}": [f"{project}/notes \\udcff\\x0a.txt"],
    }


@pytest.mark.slow
def test_jobs_ask_slurm_for_what_the_queue_xfer_wants(room: Room) -> None:
    project = room.project()
    room.file(project, b"a.h5", b"a")
    assert room.store(project).completed
    (job,) = [each for each in room.operations(project) if each.step.startswith("store")]
    assert (job.request["queue"], job.request["account"], job.request["constraint"]) == ("xfer", "als", "cron")
    assert job.request["duration"] == 12 * 3600
    assert job.service == "nersc.jobs@nersc_xfer"


@pytest.mark.slow
def test_what_is_on_tape_is_not_stored_again_and_what_is_new_goes_into_the_next_part(room: Room) -> None:
    project = room.project()
    room.file(project, b"a.h5", b"a")
    assert room.store(project).value["stored"] == [f"{project}/{bundle_of(project)}"]
    assert room.store(project).value == {"project": project, "stored": [], "known": 1, "copies": 0}
    room.file(project, b"b.h5", b"b")
    assert room.store(project).value["stored"] == [f"{project}/{project}_2026-1_part2.tar"]


@pytest.mark.slow
def test_only_the_cycle_that_is_asked_for_and_a_file_by_itself(room: Room) -> None:
    project = room.project()
    room.file(project, b"a.h5", b"a")
    room.file(project, b"b.h5", b"b", at=AUGUST_2026)
    assert room.store(project, cycle="2026-2").value["stored"] == [f"{project}/{bundle_of(project, '2026-2')}"]
    assert room.store(f"{project}/a.h5").value["stored"] == [f"{project}/a.h5"]
    assert room.store(project).value["stored"] == []
    assert isinstance(room.store(project, cycle="2026").error, InvalidInput)


@pytest.mark.slow
def test_files_over_the_limit_are_stored_by_themselves(room: Room) -> None:
    room.settle({"member_limit": 100, "bundle_limit": 4000})
    project = room.project()
    big = room.scan(project, "big.h5", b"B" * 500)
    for name in (b"a.h5", b"b.h5", b"c.h5"):
        room.file(project, name, b"x" * 90)
    ended = room.store(project)
    assert ended.completed, ended
    assert room.stored(project) == beside(bundle_of(project)) | {"big.h5", "big.h5.manifest.json"}
    assert [copy.path.text for copy in room.copies(big)] == [f"{project}/big.h5"]
    room.settle({"member_limit": 100, "bundle_limit": 1100})
    room.file(project, b"d.h5", b"x" * 90)
    room.file(project, b"e.h5", b"x" * 90)
    again = room.store(project)
    assert again.completed, again
    assert len(again.value["stored"]) == 2


@pytest.mark.slow
def test_files_that_cannot_be_archived_are_named_and_all_others_are(room: Room) -> None:
    project = room.project()
    room.file(project, b"twin\xff", b"one")
    room.file(project, b"twin\\udcff", b"other")
    room.file(project, b"a.h5", b"a")
    ended = room.store(project)
    assert isinstance(ended.error, BatchIncomplete)
    assert "twin" in ended.error.what
    assert room.stored(project) == beside(bundle_of(project))


@pytest.mark.slow
def test_a_scan_that_was_changed_at_the_source_is_no_copy_of_what_the_ledger_knows(room: Room) -> None:
    project = room.project()
    scan = room.scan(project, "scan.h5", b"first")
    room.file(project, b"scan.h5", b"other")
    assert room.store(project).completed
    assert not room.copies(scan)


@pytest.mark.slow
def test_nothing_counts_while_the_archive_is_down_or_lies(room: Room) -> None:
    project = room.project()
    scan = room.scan(project, "scan.h5", b"raw")
    for lies in (False, True):
        room.world.facility.superfacility.archive_fails(down=True, lies=lies)
        ended = room.store(project)
        assert isinstance(ended.error, JobFailed)
        assert ended.error.cause == "ArchiveUnavailable"
    room.world.facility.superfacility.archive_fails()
    assert room.store(project).completed
    assert len(room.copies(scan)) == 1


@pytest.mark.slow
def test_nothing_of_a_proposal_with_an_export_controlled_scan_is_archived(room: Room) -> None:
    project = room.project()
    scan = room.scan(project, "scan.h5", b"raw")
    with room.world.ledger() as ledger:
        ledger.scans.register(beamline=scan.beamline, path=scan.path, export_controlled=True)
    ended = room.store(project)
    assert isinstance(ended.error, ExportControlled)
    assert not room.stored(project)


def test_a_path_that_is_not_of_a_proposal_is_refused(room: Room) -> None:
    for path in ("scratch/ALS-1", "raw"):
        assert isinstance(room.store(f"../{path}").error, InvalidInput)
    ended = room.run("orchestration.flows.bl832.archive:cfs_to_hpss_flow", "/global/scratch/ALS-1")
    assert isinstance(ended.error, InvalidInput)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_each_kind_of_boundary_one_bundle_is_stored(room: Room) -> None:
    project = room.project()
    room.scan(project, "scan.h5", b"raw")
    undisturbed = room.store(project)
    assert undisturbed.completed, undisturbed
    for kill in kinds(undisturbed.boundaries):
        _killed_and_resumed(room, kill)


@pytest.mark.slow
def test_killed_where_the_job_was_submitted_or_done_one_bundle_is_stored(room: Room) -> None:
    project = room.project()
    room.scan(project, "scan.h5", b"raw")
    names = [kill for kill in kinds(room.store(project).boundaries) if "store" in kill.at]
    assert len(names) > 4
    for kill in names[::4]:
        _killed_and_resumed(room, kill)


def _killed_and_resumed(room: Room, kill: Kill) -> None:
    """Boundaries are named for their step, and steps for the proposal."""
    project = room.project()
    scan = room.scan(project, "scan.h5", b"raw")
    other = next((word.split("/")[0] for word in kill.at.split() if word.startswith("ALS-")), "")
    at = kill.at.replace(other, project) if other else kill.at
    killed = room.store(project, kill=Kill(at=at))
    assert killed.killed, (at, killed)
    again = room.store(project)
    assert again.completed, (at, again)
    assert room.stored(project) == beside(bundle_of(project)), at
    stores = [each for each in room.operations(project) if each.step.startswith("store ")]
    assert [(each.state.value, each.attempt) for each in stores] == [("succeeded", 1)], at
    assert len([each for each in room.copies(scan) if each.role is Role.ARCHIVE]) == 1, at
    assert len(room.copies(room.folder(project))) == 1, at
    assert [each.endpoint for each in room.copies(scan, SOURCE)] == [SOURCE]
