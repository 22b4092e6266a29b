"""Killed with SIGKILL at each kind of boundary, a flow run again completes, and everything has happened once.

`benchmarks/chaos.py` kills at any boundary of any flow.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from trial_room import TARGETS, Room

from orchestration.sandbox.trials.audit import LOCAL_FLOW, NEW_FILE_FLOW
from orchestration.sandbox.trials.kills import Ended, Kill, kinds

PLENTY = 400


def undisturbed(room: Room, flow: str) -> tuple[str, ...]:
    file_path = prepared(room, flow)
    ended = room.run(TARGETS[flow], file_path=file_path)
    assert ended.completed, ended
    assert room.complaints(file_path, *flows_of(flow)) == []
    return ended.boundaries


def prepared(room: Room, flow: str) -> str:
    return room.scan() if flow == NEW_FILE_FLOW else room.moved_scan()


def flows_of(flow: str) -> tuple[str, ...]:
    return (flow,) if flow == NEW_FILE_FLOW else (NEW_FILE_FLOW, flow)


def killed_once_each(room: Room, flow: str, kills: Sequence[Kill]) -> list[str]:
    """The complaints about scans of which each had one run that was killed, and another that was not."""
    bad: list[str] = []
    scans: dict[str, Kill] = {}
    for kill in kills:
        file_path = prepared(room, flow)
        runs = [room.run(TARGETS[flow], file_path=file_path, kill=chosen) for chosen in (kill, None)]
        bad += [f"{kill}: {run.error or run.error_type}" for run in runs if not run.killed and not run.completed]
        scans[file_path] = kill
    audit = room.audit()
    for file_path, kill in scans.items():
        bad += [f"{kill}: {complaint}" for complaint in audit.complaints(file_path, flows=flows_of(flow))]
    return bad


def killed_all_the_way(room: Room, flow: str, *, every: int = 1) -> tuple[int, list[str]]:
    """One scan, each run of which is killed at the next kind of boundary that none has come to, or at `every` so
    many-th of these, until one comes to its end.
    """
    file_path = prepared(room, flow)
    kills, passed, ended = -1, set[str](), Ended(killed=True)
    while ended.killed:
        assert kills < PLENTY, "it makes no progress"
        ended = room.run(TARGETS[flow], file_path=file_path, kill=Kill(spared=tuple(passed), nth=every))
        kills, passed = kills + 1, passed | {*ended.boundaries}
    assert ended.completed, ended
    return kills, [str(complaint) for complaint in room.complaints(file_path, *flows_of(flow))]


@pytest.mark.slow
def test_a_new_file_survives_one_kill_at_every_fourth_kind_of_boundary(room: Room) -> None:
    kills = kinds(undisturbed(room, NEW_FILE_FLOW))[::4]
    assert len(kills) > 5
    assert killed_once_each(room, NEW_FILE_FLOW, kills) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_scan_whose_runs_are_killed_one_after_the_other_at_every_kind_of_boundary_completes(room: Room) -> None:
    kills, bad = killed_all_the_way(room, NEW_FILE_FLOW)
    assert kills > 30
    assert bad == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_reconstruction_killed_at_every_fifth_kind_of_boundary_completes(room: Room) -> None:
    kills, bad = killed_all_the_way(room, LOCAL_FLOW, every=5)
    assert kills > 6
    assert bad == []


def test_two_runs_of_one_scan_at_once_do_everything_once(room: Room) -> None:
    file_path = room.scan()
    children = [room.start(TARGETS[NEW_FILE_FLOW], file_path=file_path) for _ in range(2)]
    ends = [child.wait() for child in children]
    assert all(ended.completed for ended in ends), ends
    assert room.complaints(file_path, NEW_FILE_FLOW) == []


def test_a_run_takes_over_from_another_that_dies_beside_it(room: Room) -> None:
    file_path = room.scan()
    doomed = Kill(at="after-submit of copy raw from spot832 to data832")
    children = [room.start(TARGETS[NEW_FILE_FLOW], file_path=file_path, kill=kill) for kill in (doomed, None)]
    ends = [child.wait() for child in children]
    assert ends[1].completed, ends
    assert room.run(TARGETS[NEW_FILE_FLOW], file_path=file_path).completed  # and finds all done
    assert room.complaints(file_path, NEW_FILE_FLOW) == []
