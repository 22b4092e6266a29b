"""Copies that arrived together have one run in Prefect's calendar, which stands for each of them as its own would."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import httpx
import pytest
from trial_room import Room

from orchestration.errors import DeletionUnproven
from orchestration.ledger.copy import CopyState
from orchestration.sandbox.trials.kills import Ended, Kill

NEW_FILES = "orchestration.flows.bl832.arrivals:new_files_flow"
PRUNE = "orchestration.flows.bl832.prune:prune_spot832"
RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"
SWEEP = "orchestration.flows.bl832.sweep:sweep_deletions"
HOUR = 3600.0


def path_of(file_path: str) -> str:
    return file_path.removeprefix("/global/")


def arrived(room: Room, number: int = 3) -> list[str]:
    scans = [room.scan() for _ in range(number)]
    ended = room.run(NEW_FILES, file_paths=[*scans], beamline="bl832")
    assert ended.completed, str(ended.error)
    return scans


def timers(room: Room, *scans: str, flow: str = "prune_spot832") -> list[dict[str, Any]]:
    """The runs in Prefect's calendar that are to delete any of them."""
    found, offset = [], 0
    with httpx.Client(base_url=room.world.prefect_url, trust_env=False, timeout=30.0) as client:
        while True:
            asked = {"flows": {"name": {"any_": [flow]}}, "offset": offset, "limit": 200}
            page = client.post("/flow_runs/filter", json=asked).raise_for_status().json()
            found += page
            offset += len(page)
            if len(page) < 200:
                break
    paths = {path_of(file_path) for file_path in scans}
    return [
        run
        for run in found
        if run["deployment_id"]
        and paths & {run["parameters"].get("relative_path"), *(run["parameters"].get("copies") or {})}
    ]


def fire(room: Room, run: dict[str, Any], *, kill: Kill | None = None) -> Ended:
    """As Prefect does when its time has come."""
    return room.run(PRUNE, kill=kill, **run["parameters"])


def overdue(room: Room, *scans: str, since: float = 2 * HOUR) -> None:
    """All at the same time, as copies that arrived together are."""
    room.keep_copies(0.0)
    at = time.time() - since
    ids = [room.overview(file_path).scan.id for file_path in scans]
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        for scan_id in ids:
            database.execute(
                "update copies set delete_after = ? where scan_id = ? and endpoint = 'spot832'", (at, scan_id)
            )


def states(room: Room, *scans: str) -> list[CopyState]:
    return [copy.state for file_path in scans for copy in room.overview(file_path).copies if copy.endpoint == "spot832"]


def scheduled(room: Room, *scans: str) -> set[str]:
    return {
        record.step
        for file_path in scans
        for record in room.overview(file_path).operations
        if record.service == "prefect.schedule"
    }


@pytest.mark.slow
def test_one_run_of_an_endpoint_deletes_all_that_arrived_together(room: Room) -> None:
    scans = arrived(room, 4)
    assert scheduled(room, *scans) == {f"schedule deletion of 4 copies at {place}" for place in ("spot832", "data832")}
    (run,) = timers(room, *scans)
    assert run["parameters"]["copies"] == {path_of(each): 1 for each in scans}
    assert len(timers(room, *scans, flow="prune_data832")) == 1
    assert room.run(NEW_FILES, file_paths=[*scans], beamline="bl832").completed
    assert [each["id"] for each in timers(room, *scans)] == [run["id"]]
    overdue(room, *scans)
    ended = fire(room, run)
    assert ended.completed, str(ended.error)
    assert len(ended.value["deleted"]) == 4
    assert states(room, *scans) == [CopyState.DELETED] * 4
    assert [room.effects(each).count("delete") for each in scans] == [1] * 4
    again = fire(room, run)
    assert again.completed, again
    assert [room.effects(each).count("delete") for each in scans] == [1] * 4


@pytest.mark.slow
def test_more_that_arrive_later_have_a_run_of_their_own_and_leave_the_first_alone(room: Room) -> None:
    first = arrived(room, 2)
    (run,) = timers(room, *first)
    more = [room.scan() for _ in range(2)]
    assert room.run(NEW_FILES, file_paths=[*first, *more], beamline="bl832").completed
    assert [each["id"] for each in timers(room, *first)] == [run["id"]]
    (other,) = timers(room, *more)
    assert other["parameters"]["copies"].keys() == {path_of(each) for each in more}


@pytest.mark.slow
def test_one_that_is_held_is_put_off_and_the_others_are_deleted(room: Room) -> None:
    scans = arrived(room)
    (run,) = timers(room, *scans)
    overdue(room, *scans)
    with room.world.ledger() as ledger:
        ledger.holds.place(room.overview(scans[1]).scan.id, who="ada", why="under review", until=None)
    ended = fire(room, run)
    assert ended.completed, str(ended.error)
    assert states(room, *scans) == [CopyState.DELETED, CopyState.PRESENT, CopyState.DELETED]
    assert [path_of(scans[1]) in why for why in ended.value["put off"]] == [True]
    assert len(timers(room, scans[1])) == 2


@pytest.mark.slow
def test_one_that_is_not_proved_is_named_and_the_others_are_deleted(room: Room) -> None:
    scans = arrived(room)
    (run,) = timers(room, *scans)
    overdue(room, *scans)
    room.file("data832", scans[1]).unlink()
    ended = fire(room, run)
    assert ended.error_type == DeletionUnproven.__name__, ended
    assert "1 of 3 copies are not deleted" in str(ended)
    assert path_of(scans[1]) in str(ended)
    assert states(room, *scans) == [CopyState.DELETED, CopyState.PRESENT, CopyState.DELETED]


@pytest.mark.slow
def test_a_run_for_many_that_prefect_has_lost_is_planned_again_for_all(room: Room) -> None:
    scans = arrived(room)
    (run,) = timers(room, *scans)
    overdue(room, *scans)
    with httpx.Client(base_url=room.world.prefect_url, trust_env=False, timeout=30.0) as client:
        client.delete(f"/flow_runs/{run['id']}").raise_for_status()
    assert timers(room, *scans) == []
    ended = room.run(RECONCILE)
    renewed = {each["path"] for each in ended.value["renewed_deletions"]}
    assert renewed >= {path_of(each) for each in scans}
    (again,) = timers(room, *scans)
    assert again["parameters"]["copies"].keys() == {path_of(each) for each in scans}
    assert {each["path"] for each in room.run(RECONCILE).value["renewed_deletions"]}.isdisjoint(renewed)
    assert fire(room, again).completed
    assert states(room, *scans) == [CopyState.DELETED] * 3


@pytest.mark.slow
def test_what_a_person_cancelled_for_many_is_left_for_each(room: Room) -> None:
    scans = arrived(room)
    (run,) = timers(room, *scans)
    with httpx.Client(base_url=room.world.prefect_url, trust_env=False, timeout=30.0) as client:
        state = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
        client.post(f"/flow_runs/{run['id']}/set_state", json=state).raise_for_status()
    assert room.run(NEW_FILES, file_paths=[*scans, room.scan()], beamline="bl832").completed
    overdue(room, *scans)
    assert room.run(SWEEP, dry_run=False).completed
    assert room.run(RECONCILE).completed
    assert states(room, *scans) == [CopyState.PRESENT] * 3
    assert len(timers(room, *scans)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before-reserve", "before-submit", "after-submit"])
def test_a_run_that_is_killed_while_it_plans_leaves_one_timer(room: Room, where: str) -> None:
    scans, more = [room.scan() for _ in range(3)], room.scan()
    at = Kill(at=f"{where} of schedule deletion of 3 copies at spot832")
    assert room.run(NEW_FILES, kill=at, file_paths=[*scans], beamline="bl832").killed
    ended = room.run(NEW_FILES, file_paths=[*scans, more], beamline="bl832")
    assert ended.completed, str(ended.error)
    assert len(timers(room, *scans)) == 1
    assert len(timers(room, more)) == 1


@pytest.mark.slow
def test_killed_at_every_kind_of_boundary_many_are_deleted_once(room: Room) -> None:
    scans = arrived(room)
    (run,) = timers(room, *scans)
    overdue(room, *scans)
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = fire(room, run, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, str(ended.error)
    assert states(room, *scans) == [CopyState.DELETED] * 3
    assert [room.effects(each).count("delete") for each in scans] == [1] * 3
