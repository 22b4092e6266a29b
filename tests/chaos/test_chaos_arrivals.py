"""New files that arrive together go in one task of each way, each once, whoever is killed meanwhile."""

from __future__ import annotations

from contextlib import closing

import pytest
from sandbox_hall import wait_for
from trial_room import NEW_FILE, Room

from orchestration import config
from orchestration.flows.cancelling import Answered
from orchestration.flows.services import Services
from orchestration.flows.stopping import cancel_scan
from orchestration.ledger.copy import CopyState, Role
from orchestration.ledger.scan import scan_identity
from orchestration.paths import RelativePath
from orchestration.sandbox.trials.kills import Ended, Kill

NEW_FILES = "orchestration.flows.bl832.arrivals:new_files_flow"


def carried(room: Room, *scans: str, kill: Kill | None = None, **flags: bool) -> Ended:
    return room.run(NEW_FILES, kill=kill, file_paths=[*scans], beamline="bl832", **flags)


def killed_after_submission(room: Room, *scans: str) -> None:
    ended, spared = Ended(killed=True), list[str]()
    while not ended.killed_at.startswith("after-submit"):
        ended = carried(room, *scans, kill=Kill(spared=tuple(spared)))
        assert ended.killed, ended
        spared.append(ended.killed_at)


def places(room: Room, file_path: str) -> dict[str, Role]:
    copies = room.overview(file_path).copies
    assert all(copy.state is CopyState.PRESENT for copy in copies)
    for copy in copies:
        content = room.file(copy.endpoint, file_path).read_bytes()
        assert content == room.file("spot832", file_path).read_bytes()
        assert [(entry.path, entry.size) for entry in copy.manifest] == [("", len(content))]
        assert all(entry.checksum for entry in copy.manifest)
    return {copy.endpoint: copy.role for copy in copies}


def cancelled(room: Room, file_path: str, *, whole_batch: bool = False) -> list[Answered]:
    with closing(Services(config.load())) as services, room.world.ledger() as ledger:
        scan = ledger.scans.find(file_path.removeprefix("/global/"))
        return cancel_scan(ledger, services, scan, whole_batch=whole_batch)


EVERYWHERE = {"spot832": Role.ORIGINAL, "data832": Role.REPLICA, "nersc832": Role.REPLICA}


def tasks(room: Room, *scans: str) -> int:
    """Transfers that were made of any of them."""
    found = {
        record.key: record
        for file_path in scans
        for record in room.overview(file_path).operations
        if record.service == "globus.transfer" and record.handle is not None
    }
    return len(found)


def records(room: Room, file_path: str) -> list[int]:
    """How many the catalogue has of the scan, of its file and of its picture."""
    effects, stem = room.world.facility.effects(), file_path.rpartition("/")[2].removesuffix(".h5")
    pids = [one.id for one in effects if one.kind == "dataset" and stem in one.label]
    parts = [one.kind for one in effects if one.key in pids]
    return [len(pids), parts.count("origdatablock"), parts.count("attachment")]


@pytest.mark.slow
def test_many_go_in_one_task_of_each_way(room: Room) -> None:
    scans = [room.scan() for _ in range(4)]
    ended = carried(room, *scans)
    assert ended.completed, ended
    for file_path in scans:
        assert places(room, file_path) == EVERYWHERE
        assert room.effects(file_path).count("transfer") == 2
        assert [each.step for each in room.overview(file_path).operations if each.service == "prefect.schedule"]
        assert records(room, file_path) == [1, 1, 1]
    assert ended.value["catalogued"] == 4
    assert tasks(room, *scans) == 2
    assert carried(room, *scans).completed
    assert tasks(room, *scans) == 2
    assert [records(room, file_path) for file_path in scans] == [[1, 1, 1]] * 4
    assert room.run(NEW_FILE, file_path=scans[0]).completed
    assert records(room, scans[0]) == [1, 1, 1]


@pytest.mark.slow
def test_one_without_a_record_is_named_and_the_others_are_catalogued(room: Room) -> None:
    scans, bad = [room.scan() for _ in range(2)], room.scan()
    room.file("spot832", bad).write_bytes(b"no scan")
    ended = carried(room, *scans, bad)
    assert ended.error_type == "BatchIncomplete", ended
    assert "1 of 3 files" in str(ended)
    assert bad.removeprefix("/global/") in str(ended)
    assert [records(room, file_path) for file_path in scans] == [[1, 1, 1]] * 2
    assert records(room, bad) == [0, 0, 0]
    assert places(room, bad) == EVERYWHERE
    assert not [each for each in room.overview(bad).operations if each.service == "prefect.schedule"]

    good = room.scan()
    assert carried(room, good).completed  # it is left to the next run for it


@pytest.mark.slow
def test_one_that_the_catalogue_refuses_is_catalogued_by_the_next_run(room: Room) -> None:
    scans = [room.scan() for _ in range(3)]
    room.world.facility.faults.add(r"POST /scicat/api/v3/[Dd]atasets$", "status", status=400, times=1)
    ended = carried(room, *scans)
    assert ended.error_type == "BatchIncomplete", ended
    assert sum(records(room, file_path) == [1, 1, 1] for file_path in scans) == 2
    assert carried(room, *scans).completed
    assert [records(room, file_path) for file_path in scans] == [[1, 1, 1]] * 3


@pytest.mark.slow
def test_the_page_of_each_says_what_became_of_it(room: Room) -> None:
    scans, bad, missing = [room.scan() for _ in range(2)], room.scan(), room.scan()
    room.file("spot832", bad).write_bytes(b"no scan")
    room.file("spot832", missing).unlink()
    assert carried(room, *scans, bad, missing).error_type == "BatchIncomplete"
    told = [(found.state.value, found.error) for found in map(room.overview, scans)]
    assert told == [("completed", None)] * 2
    for file_path, kind in ((bad, "ScanUnreadable"), (missing, "SourceMissing")):
        found = room.overview(file_path)
        assert (found.state.value, type(found.error).__name__) == ("failed", kind)
        assert found.error is not None
        assert found.error.next_step
    with room.world.ledger() as ledger:
        (batch, *_) = ledger.batches.latest(limit=1)
        assert {state.value: count for state, count in ledger.batches.counts(batch.id).items() if count} == {
            "done": 2,
            "failed": 2,
        }
    room.file("spot832", missing).write_bytes(room.file("spot832", scans[0]).read_bytes())
    assert carried(room, missing).completed
    assert room.overview(missing).state.value == "completed"
    room.file("spot832", bad).write_bytes(room.file("spot832", scans[0]).read_bytes())
    assert room.run(NEW_FILE, file_path=bad).completed
    found = room.overview(bad)
    assert (found.state.value, found.error) == ("completed", None)
    assert [type(each.error).__name__ for each in found.runs if each.error] == ["ScanUnreadable"]


@pytest.mark.slow
def test_one_whose_run_was_killed_is_interrupted_until_the_same_run_goes_on(room: Room) -> None:
    scans = [room.scan() for _ in range(2)]
    killed_after_submission(room, *scans)
    with room.world.ledger() as ledger:
        (batch, *_) = ledger.batches.latest(limit=1)
    assert [room.overview(each).state.value for each in scans] == ["interrupted"] * 2
    assert carried(room, *scans).completed
    with room.world.ledger() as ledger:
        assert ledger.batches.latest(limit=1)[0].id == batch.id
    assert [room.overview(each).state.value for each in scans] == ["completed"] * 2


@pytest.mark.slow
def test_what_became_of_each_is_told_though_the_run_was_killed_at_its_very_end(room: Room) -> None:
    scans = [room.scan() for _ in range(2)]
    reached = carried(room, *[room.scan() for _ in range(2)]).boundaries
    ends = ("after-write of arrivals, after schedule", "after-write of batches, after schedule")
    (first, _) = [each for each in reached if each.startswith(ends)]
    assert carried(room, *scans, kill=Kill(at=first)).killed
    assert carried(room, room.scan()).completed
    assert [room.overview(each).state.value for each in scans] == ["completed"] * 2


@pytest.mark.slow
def test_what_the_catalogue_refused_is_told_by_the_next_run_if_its_own_was_killed(room: Room) -> None:
    scans, bad = [room.scan() for _ in range(2)], [room.scan() for _ in range(2)]
    for each in bad:
        room.file("spot832", each).write_bytes(b"no scan")
    reached = carried(room, scans[0], bad[0]).boundaries
    planning = next(each for each in reached if each.startswith("before-submit of schedule"))
    assert carried(room, scans[1], bad[1], kill=Kill(at=planning)).killed
    assert carried(room, room.scan()).completed
    assert [room.overview(each).state.value for each in (scans[1], bad[1])] == ["completed", "failed"]


@pytest.mark.slow
def test_one_that_is_not_there_is_named_and_the_others_go(room: Room) -> None:
    scans = [room.scan() for _ in range(2)]
    missing = room.scan()
    room.file("spot832", missing).unlink()
    ended = carried(room, *scans, missing)
    assert ended.error_type == "BatchIncomplete", ended
    assert missing.removeprefix("/global/") in str(ended)
    assert [places(room, file_path) for file_path in scans] == [EVERYWHERE] * 2


@pytest.mark.slow
def test_what_is_under_export_control_stays_and_the_others_go(room: Room) -> None:
    scans = [room.scan() for _ in range(2)]
    flagged = room.scan()
    assert carried(room, flagged, is_export_control=True, send_to_nersc=False).completed
    assert carried(room, *scans, flagged).completed
    assert [places(room, file_path) for file_path in scans] == [EVERYWHERE] * 2
    assert places(room, flagged).keys() == {"spot832", "data832"}
    assert [records(room, file_path) for file_path in (*scans, flagged)] == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert tasks(room, *scans) == 2


@pytest.mark.slow
def test_what_a_killed_run_had_begun_the_next_carries_on_with_its_own(room: Room) -> None:
    left, new = [room.scan() for _ in range(2)], room.scan()
    killed_after_submission(room, *left)
    assert carried(room, new).completed
    for file_path in (*left, new):
        assert places(room, file_path) == EVERYWHERE
        assert room.effects(file_path).count("transfer") == 2
        assert records(room, file_path) == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_what_a_person_cancels_with_its_batch_is_carried_on_by_no_run(room: Room) -> None:
    left, new = [room.scan() for _ in range(2)], room.scan()
    entered = Kill(at="after-write of arrivals, after the beginning", nth=2)
    assert carried(room, *left, kill=entered).killed
    (with_others,) = cancelled(room, left[0])
    assert (with_others.spared, with_others.others) == (True, (left[1].removeprefix("/global/"),))
    answers = cancelled(room, left[0], whole_batch=True)
    assert all(each.certain for each in answers), answers
    assert [room.overview(each).state.value for each in left] == ["cancelled"] * 2
    assert carried(room, new).completed
    assert places(room, new) == EVERYWHERE
    assert [places(room, each) for each in left] == [{}, {}]
    assert cancelled(room, left[0]) == []


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_run_that_waits_for_more_files_goes_on_or_ends_with_all_of_them(room: Room) -> None:
    scans = [room.scan() for _ in range(2)]
    child = room.start(NEW_FILES, file_paths=[*scans], beamline="bl832")
    with room.world.ledger() as ledger:
        scan = scan_identity("bl832", RelativePath(scans[0].removeprefix("/global/")))
        wait_for(lambda: ledger.arrivals.unsettled(scan_id=scan), seconds=60.0)
    (with_others,) = cancelled(room, scans[0])
    assert with_others.spared
    answers = cancelled(room, scans[0], whole_batch=True)
    assert all(each.certain for each in answers), answers
    assert not child.wait().completed
    assert [room.overview(each).state.value for each in scans] == ["cancelled"] * 2
    assert [places(room, each) for each in scans] == [{}, {}]


@pytest.mark.slow
def test_killed_at_every_kind_of_boundary_no_file_is_sent_twice(room: Room) -> None:
    scans = [room.scan() for _ in range(3)]
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = carried(room, *scans, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, ended
    assert len(spared) > 8
    for file_path in scans:
        assert places(room, file_path) == EVERYWHERE
        assert room.effects(file_path).count("transfer") == 2
        assert records(room, file_path) == [1, 1, 1]


@pytest.mark.slow
def test_each_has_its_file_with_its_checksum_at_every_place(room: Room) -> None:
    """Also where another endpoint of the settings lies deeper in the same collection."""
    scans = [room.scan() for _ in range(2)]
    assert carried(room, *scans).completed
    for file_path in scans:
        for copy in room.overview(file_path).copies:
            (file,) = copy.manifest
            assert (file.path, file.size) == ("", room.file(copy.endpoint, file_path).stat().st_size)
            assert file.checksum
