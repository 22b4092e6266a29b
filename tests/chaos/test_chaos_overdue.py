"""What is due is deleted once, later or not at all and said so, whatever becomes of Prefect's calendar."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import httpx
import pytest
from trial_room import Room

from orchestration.errors import Cancelled
from orchestration.flows.overdue import missed
from orchestration.flows.reconciling import reconcile
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.sandbox.trials.audit import Audit
from orchestration.sandbox.trials.kills import Kill

RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"
HOUR = 3600.0


def overdue_scan(room: Room) -> str:
    """Since two hours; its deletions stand in the calendar for the time that was set first. Nothing else is due there:
    where one cannot be planned, the others are not tried.
    """
    file_path = room.moved_scan()
    room.keep_copies(0.0)
    scan = room.overview(file_path).scan
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute(
            "update copies set delete_after = ? where scan_id = ? and endpoint = 'spot832'",
            (time.time() - 2 * HOUR, scan.id),
        )
        database.execute(
            "update copies set delete_after = ? where scan_id <> ? and endpoint = 'spot832' and delete_after < ?",
            (time.time() + 24 * HOUR, scan.id, time.time() + HOUR),
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
    clear(room, file_path)


@pytest.mark.slow
def test_a_deletion_whose_deployment_was_made_again_takes_place_once(room: Room) -> None:
    file_path = overdue_scan(room)
    delete_deployment(room, "prune_spot832")
    assert timers(room, file_path) == 0
    assert renewed(room, file_path) == []  # there is no deployment
    room.deploy()
    assert renewed(room, file_path) == []  # it was asked for a moment ago
    an_hour_later(room, file_path)
    assert renewed(room, file_path) == ["spot832"]
    assert timers(room, file_path) == 1
    assert renewed(room, file_path) == []
    assert timers(room, file_path) == 1
    clear(room, file_path)
    assert not room.file("spot832", file_path).exists()
    assert renewed(room, file_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before-reserve", "before-submit", "after-submit"])
def test_a_reconcile_that_is_killed_while_it_plans_a_deletion_again_leaves_one(room: Room, where: str) -> None:
    file_path = overdue_scan(room)
    delete_deployment(room, "prune_spot832")
    room.deploy()
    assert room.run(RECONCILE, kill=Kill(at=f"{where} of schedule deletion of raw at spot832")).killed
    renewed(room, file_path)
    assert timers(room, file_path) == 1
    assert [each.step for each in room.overview(file_path).operations if each.state.open] == []
    clear(room, file_path)


@pytest.mark.usefixtures("here")
@pytest.mark.slow
def test_a_reconcile_that_is_cancelled_while_it_plans_a_deletion_again_ends_as_cancelled(room: Room) -> None:
    file_path = overdue_scan(room)
    delete_deployment(room, "prune_spot832")
    room.deploy()
    cancelled: list[RunRecord] = []

    def cancel_once(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.BEFORE_RESERVE and "at spot832" in subject and not cancelled:
            cancelled.append(room.cancel_in_prefect("reconcile"))

    with listening(cancel_once), pytest.raises(Cancelled):
        reconcile()
    (run,) = cancelled
    with room.world.ledger() as ledger:
        known = ledger.runs.get(run.id)
    assert known is not None
    assert known.state is RunState.CANCELLED
    with httpx.Client(base_url=room.world.prefect_url, trust_env=False, timeout=30.0) as client:
        assert client.get(f"/flow_runs/{run.id}").raise_for_status().json()["state"]["type"] == "CANCELLED"
    assert timers(room, file_path) == 0
    an_hour_later(room, file_path)
    assert renewed(room, file_path) == ["spot832"]
    clear(room, file_path)


def clear(room: Room, file_path: str) -> None:
    """So that it is overdue for no other test."""
    assert room.prune("spot832", file_path).completed
    assert room.effects(file_path).count("delete") == 1


def an_hour_later(room: Room, file_path: str) -> None:
    """Since all that was done about the scan ended."""
    scan = room.overview(file_path).scan
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute("update operations set finished_at = finished_at - 4000 where scan_id = ?", (scan.id,))


def planning(state: OperationState, *, finished_at: float | None = None) -> OperationRecord:
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
        owner=None if finished_at else str(Owner.here()),
        lease_until=None,
        cancel_requested=False,
        progress=None,
        evidence=None,
        error=None,
        created_at=0.0,
        began_at=0.0,
        submitted_at=None,
        finished_at=finished_at,
    )


def test_what_is_not_in_the_calendar_is_missed_unless_somebody_is_at_it_or_was_just_now() -> None:
    now = time.time()
    assert "never planned" in missed(None, None, now=now)
    assert "does not know" in missed(planning(OperationState.SUCCEEDED, finished_at=now), None, now=now)
    assert missed(planning(OperationState.RUNNING), None, now=now) == ""
    assert missed(planning(OperationState.FAILED, finished_at=now - 10), None, now=now) == ""
    assert "did not come" in missed(planning(OperationState.FAILED, finished_at=now - 2 * HOUR), None, now=now)
