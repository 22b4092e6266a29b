"""What is due is deleted once, later or not at all and said so, whatever becomes of Prefect's calendar."""

from __future__ import annotations

import sqlite3
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from trial_room import Room

from orchestration.flows.overdue import missed
from orchestration.ledger.copies import CopyState
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.sandbox.trials.audit import Audit

RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"
HOUR = 3600.0


def overdue_scan(room: Room) -> str:
    """Since two hours; its deletions stand in the calendar for the time that was set first."""
    file_path = room.moved_scan()
    room.keep_copies(0.0)
    scan = room.overview(file_path).scan
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute(
            "update copies set delete_after = ? where scan_id = ? and endpoint = 'spot832'",
            (time.time() - 2 * HOUR, scan.id),
        )
    return file_path


def renewed(room: Room, file_path: str) -> list[str]:
    ended = room.run(RECONCILE)
    assert ended.completed, ended
    path = file_path.removeprefix("/global/")
    return [each["endpoint"] for each in ended.value["renewed_deletions"] if each["path"] == path]


def timers(room: Room, file_path: str) -> int:
    path = file_path.removeprefix("/global/")
    return [at for name, at in Audit(room.world).calendar if name == "prune_spot832"].count(path)


def delete_deployment(room: Room, name: str) -> None:
    with httpx.Client(base_url=room.world.prefect_url, trust_env=False, timeout=30.0) as client:
        found = client.get(f"/deployments/name/{name}/{name}").raise_for_status().json()
        client.delete(f"/deployments/{found['id']}").raise_for_status()


def test_a_deletion_that_waits_for_a_worker_is_left_to_it(room: Room) -> None:
    file_path = overdue_scan(room)
    assert renewed(room, file_path) == []
    assert timers(room, file_path) == 1


def test_a_deletion_whose_deployment_was_made_again_takes_place_once(room: Room) -> None:
    file_path = overdue_scan(room)
    delete_deployment(room, "prune_spot832")
    assert timers(room, file_path) == 0
    assert renewed(room, file_path) == []  # there is no deployment; it is said, and tried again
    room.deploy()
    copy = next(each for each in room.overview(file_path).copies if each.endpoint == "spot832")
    assert copy.state is CopyState.PRESENT
    overdue_again(room, file_path)
    assert renewed(room, file_path) == ["spot832"]
    assert timers(room, file_path) == 1
    assert renewed(room, file_path) == []
    assert timers(room, file_path) == 1
    planned = room.prune("spot832", file_path)
    assert planned.completed, planned
    assert not room.file("spot832", file_path).exists()
    overdue_again(room, file_path)
    assert renewed(room, file_path) == []
    assert room.effects(file_path).count("delete") == 1


def overdue_again(room: Room, file_path: str) -> None:
    scan = room.overview(file_path).scan
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute(
            "update copies set delete_after = delete_after - 7200 where scan_id = ? and endpoint = 'spot832'",
            (scan.id,),
        )


def planning(state: OperationState) -> OperationRecord:
    return OperationRecord(
        key="k",
        scan_id="s",
        step="schedule deletion of raw at spot832",
        service="prefect.schedule",
        destination="",
        request={},
        run_id=None,
        state=state,
        attempt=1,
        token="k",
        handle="h",
        owner=None,
        lease_until=None,
        cancel_requested=False,
        progress=None,
        evidence=None,
        error=None,
        created_at=0.0,
        began_at=0.0,
        submitted_at=None,
        finished_at=None,
    )


@pytest.mark.parametrize(
    ("state", "hours", "again"),
    [
        (StateType.SCHEDULED, 99, False),
        (StateType.RUNNING, 99, False),
        (StateType.CANCELLED, 99, False),
        (StateType.FAILED, 1, False),
        (StateType.FAILED, 25, True),
        (StateType.CRASHED, 25, True),
        (StateType.COMPLETED, 25, True),
    ],
)
def test_a_run_that_ended_without_deleting_is_tried_again_a_day_later(
    state: StateType, hours: int, again: bool
) -> None:
    since = datetime.now(UTC) - timedelta(hours=hours)
    run = FlowRun(flow_id=uuid.uuid4(), state=State(type=state, timestamp=since))
    assert bool(missed(planning(OperationState.SUCCEEDED), run, now=time.time())) is again


def test_what_was_never_planned_or_is_forgotten_is_missed_and_what_is_being_planned_is_not() -> None:
    assert "never planned" in missed(None, None, now=time.time())
    assert "does not know" in missed(planning(OperationState.SUCCEEDED), None, now=time.time())
    assert missed(planning(OperationState.RUNNING), None, now=time.time()) == ""
