"""What a run that died has left at a facility: adopted when it has ended, and ended when nobody wants it."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

import pytest
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from trial_room import NERSC, Room

from orchestration.flows.standing import free_reconcile
from orchestration.flows.suspending import SuspendedRuns
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.runs import RunState
from orchestration.sandbox.trials.kills import Kill

RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"
SUBMITTED = Kill(at="after-submit of reconstruct at nersc")
STEP = "reconstruct at nersc"


def job(room: Room, file_path: str) -> OperationRecord:
    return next(one for one in room.overview(file_path).operations if one.step == STEP)


def fate(room: Room, file_path: str) -> str:
    ended = room.run(RECONCILE)
    assert ended.completed, ended
    key = job(room, file_path).key
    return next((str(line["fate"]) for line in ended.value["orphans"] if line["key"] == key), "")


def going_on(room: Room) -> list[str]:
    return [one.id for one in room.world.facility.superfacility.jobs() if not one.over]


def until_nothing_goes_on(room: Room) -> None:
    end = time.monotonic() + 120
    while going_on(room):
        assert time.monotonic() < end, "the job goes on"
        threading.Event().wait(0.05)


def change(room: Room, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute(statement, values)


@pytest.mark.slow
def test_a_job_of_a_dead_run_is_adopted_when_it_has_ended(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(NERSC, file_path=file_path, kill=SUBMITTED).killed
    until_nothing_goes_on(room)
    assert job(room, file_path).state.open
    assert fate(room, file_path) == "ended"
    assert job(room, file_path).state is OperationState.SUCCEEDED
    assert room.run(NERSC, file_path=file_path).completed
    assert job(room, file_path).attempt == 1


@pytest.mark.slow
def test_a_job_of_a_dead_run_that_goes_on_is_left_alone_until_it_is_too_old(room: Room) -> None:
    file_path = room.moved_scan()
    room.world.facility.superfacility.turn(held=True)
    try:
        assert room.run(NERSC, file_path=file_path, kill=SUBMITTED).killed
        assert fate(room, file_path) == "goes on"
        assert job(room, file_path).state.open
        change(room, "update operations set began_at = began_at - 200000 where key = ?", job(room, file_path).key)
        assert fate(room, file_path) == "cancelled"
        assert job(room, file_path).state is OperationState.CANCELLED
        assert going_on(room) == []
    finally:
        room.world.facility.superfacility.turn(held=False)


def job_folders(room: Room) -> list[str]:
    """At NERSC, by the tokens of their jobs."""
    return sorted(path.name for path in room.world.root("nersc832_alsdev_pscratch_raw").parent.glob("jobs/*"))


@pytest.mark.slow
def test_the_folders_of_a_job_are_removed_a_month_after_its_end(room: Room) -> None:
    kept, gone = room.moved_scan(), room.moved_scan()
    for file_path in (kept, gone):
        assert room.run(NERSC, file_path=file_path).completed
    names = {str(job(room, file_path).token): file_path for file_path in (kept, gone)}
    assert names.keys() <= set(job_folders(room))
    month = "update operations set finished_at = finished_at - 31 * 86400 where key = ?"
    change(room, month, job(room, gone).key)
    ended = room.run(RECONCILE)
    assert ended.completed, ended
    assert ended.value["cleared_jobs"] == {"nersc": 1}
    left = [names[name] for name in job_folders(room) if name in names]
    assert left == [kept]
    assert not [name for name in job_folders(room) if str(job(room, gone).token) in name]
    assert job(room, gone).cleared_at is not None
    assert room.run(RECONCILE).value["cleared_jobs"] == {}
    assert room.run(NERSC, file_path=gone).completed  # nothing of it was needed any more
    assert job(room, gone).attempt == 1


@pytest.mark.slow
def test_the_folders_of_a_job_stay_for_as_long_as_its_site_does_not_answer(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(NERSC, file_path=file_path).completed
    change(room, "update operations set finished_at = finished_at - 31 * 86400 where key = ?", job(room, file_path).key)
    rule = room.world.facility.faults.add(r"/nersc/", "status", status=503, times=0)
    assert rule is not None
    assert room.run(RECONCILE).value["cleared_jobs"] == {}
    assert job(room, file_path).cleared_at is None
    room.world.facility.faults.clear()
    assert room.run(RECONCILE).value["cleared_jobs"] == {"nersc": 1}


@pytest.mark.slow
def test_a_job_that_lives_although_the_ledger_has_closed_it_is_cancelled(room: Room) -> None:
    """As one whose facility had said that it was over, and was wrong."""
    file_path = room.moved_scan()
    room.world.facility.superfacility.turn(held=True)
    try:
        assert room.run(NERSC, file_path=file_path, kill=SUBMITTED).killed
        closed = "update operations set state = 'failed', finished_at = began_at - 100000 where key = ?"
        change(room, closed, job(room, file_path).key)
        ended = room.run(RECONCILE)
        assert ended.completed, ended
        assert [(line["step"], line["answer"]) for line in ended.value["swept_jobs"]] == [(STEP, "cancelled")]
        assert going_on(room) == []
    finally:
        room.world.facility.superfacility.turn(held=False)


def test_a_run_of_reconcile_that_died_does_not_keep_its_queue(room: Room) -> None:
    assert room.run(RECONCILE, kill=Kill(at="after-write of runs, after the beginning")).killed
    with room.world.ledger() as ledger, temporary_settings({PREFECT_API_URL: room.world.prefect_url}):
        dead = [run.id for run in ledger.runs.in_state(RunState.RUNNING) if run.flow == "reconcile"]
        assert dead
        prefect = SuspendedRuns()
        assert prefect.begun("reconcile").keys() >= {*dead}
        free_reconcile(ledger, prefect)
        assert not prefect.begun("reconcile").keys() & {*dead}
        assert {run.id for run in ledger.runs.in_state(RunState.DEAD)} >= {*dead}
        assert {state.type for state in prefect.states(dead).values() if state} == {StateType.CRASHED}
