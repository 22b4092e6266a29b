"""The nightly sweep deletes what is due and proved, many copies in one task, each once, whoever is killed meanwhile."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import httpx
import pytest
from trial_room import Room

from orchestration.errors import Cancelled
from orchestration.flows import nightly
from orchestration.ledger.audit import Verdict
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.copy import CopyState
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.sandbox.trials.kills import Ended, Kill

SWEEP = "orchestration.flows.bl832.sweep:sweep_deletions"
HOUR = 3600.0


def overdue(room: Room, *scans: str, endpoint: str = "spot832") -> None:
    """Their copies there, or at the detector, since two hours."""
    room.keep_copies(0.0)
    ids = [room.overview(file_path).scan.id for file_path in scans]
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        for scan in ids:
            database.execute(
                "update copies set delete_after = ?, verified_at = verified_at - 8000"
                " where scan_id = ? and endpoint = ?",
                (time.time() - 2 * HOUR, scan, endpoint),
            )


def swept(room: Room, *, kill: Kill | None = None) -> Ended:
    return room.run(SWEEP, kill=kill, dry_run=False)


def there(room: Room, file_path: str) -> bool:
    found = next(copy for copy in room.overview(file_path).copies if copy.endpoint == "spot832")
    assert (found.state is CopyState.PRESENT) is room.file("spot832", file_path).exists()
    return found.state is CopyState.PRESENT


def deletions(room: Room, file_path: str) -> int:
    return room.effects(file_path).count("delete")


def test_all_that_is_due_goes_in_one_task_and_what_is_held_or_unproven_stays(room: Room) -> None:
    room.keep_copies(0.0)
    before = room.run(SWEEP).value  # what other tests have left
    scans = [room.moved_scan() for _ in range(4)]
    first, second, held, unproven = scans
    overdue(room, *scans)
    with room.world.ledger() as ledger:
        ledger.holds.place(room.overview(held).scan.id, why="paper", who="ada")
    room.file("data832", unproven).write_bytes(b"something else")
    told = room.run(SWEEP)
    assert told.completed, told
    assert (told.value["due"] - before["due"], told.value["held"] - before["held"]) == (3, 1)
    assert (told.value["deleted"], told.value["left"]) == (0, told.value["due"])
    assert all(there(room, each) for each in (first, second, held))
    ended = swept(room)
    assert ended.completed, ended
    assert ended.value["due"] == told.value["due"] == ended.value["deleted"] + ended.value["refused"]
    assert any(unproven.rpartition("/")[2] in why for why in ended.value["why"])
    assert [there(room, each) for each in scans] == [False, False, True, True]
    assert [deletions(room, each) for each in (first, second)] == [1, 1]
    with room.world.ledger() as ledger:
        proved = [ledger.audit.of_scan(room.overview(each).scan.id)[0] for each in (first, second)]
    assert len({line.run_id for line in proved}) == 1
    tasks = [effect for effect in room.world.facility.effects() if effect.kind == "delete"]
    stems = [each.rpartition("/")[2] for each in (first, second)]
    assert any(all(any(stem in path for path in task.paths) for stem in stems) for task in tasks)
    with room.world.ledger() as ledger:
        audit = ledger.audit.of_scan(room.overview(second).scan.id)
    assert [line.verdict for line in audit] == [Verdict.PROVED, Verdict.DELETED]
    assert swept(room).completed
    assert deletions(room, first) == 1


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_every_kind_of_boundary_deletes_each_copy_once(room: Room) -> None:
    scans = [room.moved_scan() for _ in range(2)]
    overdue(room, *scans)
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = swept(room, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, ended
    assert len(spared) > 8
    for file_path in scans:
        assert not there(room, file_path)
        assert deletions(room, file_path) == 1


def test_what_a_timer_deletes_at_the_same_time_goes_once(room: Room) -> None:
    file_path, other = room.moved_scan(), room.moved_scan()
    overdue(room, file_path, other)
    path = file_path.removeprefix("/global/")
    timer = room.start("orchestration.flows.bl832.prune:prune_spot832", relative_path=path, generation=1)
    sweep = room.start(SWEEP, dry_run=False)
    assert [child.wait().killed for child in (timer, sweep)] == [False, False]
    assert swept(room).completed
    for each in (file_path, other):
        assert not there(room, each)
        assert deletions(room, each) == 1


@pytest.mark.slow
def test_a_task_that_fails_half_way_leaves_what_is_left_as_it_was(room: Room) -> None:
    scans = [room.moved_scan() for _ in range(2)]
    overdue(room, *scans)
    room.world.facility.collections.set(room.collection("spot832"), writable=False)
    ended = swept(room)
    assert ended.error_type == "AccessDenied", ended
    assert [there(room, each) for each in scans] == [True, True]
    room.calm()
    room.keep_copies(0.0)
    assert swept(room).completed
    assert [there(room, each) for each in scans] == [False, False]


def test_what_a_person_cancelled_in_prefect_is_left(room: Room) -> None:
    file_path = room.moved_scan()
    overdue(room, file_path)
    path = file_path.removeprefix("/global/")
    named = {"flow_runs": {"name": {"like_": path.rpartition("/")[2]}}, "flows": {"name": {"any_": ["prune_spot832"]}}}
    with httpx.Client(base_url=room.world.prefect_url, trust_env=False, timeout=30.0) as client:
        runs = client.post("/flow_runs/filter", json=named).raise_for_status().json()
        (run,) = [each for each in runs if each["parameters"]["relative_path"] == path]
        state = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
        client.post(f"/flow_runs/{run['id']}/set_state", json=state).raise_for_status()
    assert swept(room).completed
    assert there(room, file_path)
    assert room.prune("spot832", file_path).completed


@pytest.mark.usefixtures("here")
@pytest.mark.slow
def test_a_sweep_that_is_cancelled_begins_no_other_batch(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = [room.moved_scan() for _ in range(2)]
    overdue(room, *scans)
    monkeypatch.setattr(nightly, "AT_ONCE", 1)
    cancelled: list[RunRecord] = []

    def cancel_once(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.BEFORE_RESERVE and subject.startswith("delete ") and not cancelled:
            cancelled.append(room.cancel_in_prefect(nightly.NAME))

    with listening(cancel_once), pytest.raises(Cancelled):
        nightly.sweep_deletions(dry_run=False)
    assert [there(room, each) for each in scans] == [True, True]
    with room.world.ledger() as ledger:
        told = [ledger.audit.of_scan(room.overview(each).scan.id) for each in scans]
        (run,) = (ledger.runs.get(each.id) for each in cancelled)
    assert sum(any(line.verdict is Verdict.PROVED for line in lines) for lines in told) <= 1
    assert run is not None
    assert run.state is RunState.CANCELLED
