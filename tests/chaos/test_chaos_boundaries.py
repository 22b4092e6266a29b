"""Killed with SIGKILL at every boundary, a flow run again completes, and everything has happened once."""

from __future__ import annotations

import pytest
from trial_room import TARGETS, Room

from orchestration.sandbox.trials.audit import LOCAL_FLOW, NEW_FILE_FLOW
from orchestration.sandbox.trials.kills import Ended, Kill, each, kinds

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


def killed_once(room: Room, flow: str, kill: Kill) -> list[str]:
    """The complaints after a run that was killed there, and another that was not."""
    file_path = prepared(room, flow)
    first = room.run(TARGETS[flow], file_path=file_path, kill=kill)
    if not first.killed and not first.completed:
        return [f"{kill}: the first run ended with {first.error or first.error_type}"]
    second = room.run(TARGETS[flow], file_path=file_path)
    if not second.completed:
        return [f"{kill}: the next run ended with {second.error or second.error_type}"]
    return [f"{kill}: {complaint}" for complaint in room.complaints(file_path, *flows_of(flow))]


def killed_all_the_way(room: Room, flow: str) -> tuple[int, list[str]]:
    """One scan, killed at each kind of boundary, one after the other, until nothing is left to be killed at."""
    file_path = prepared(room, flow)
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed:
        assert len(spared) < PLENTY, "it makes no progress"
        ended = room.run(TARGETS[flow], file_path=file_path, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, ended
    return len(spared) - 1, [str(complaint) for complaint in room.complaints(file_path, *flows_of(flow))]


def test_a_new_file_survives_one_kill_at_each_kind_of_boundary(room: Room) -> None:
    kills = kinds(undisturbed(room, NEW_FILE_FLOW))
    assert len(kills) > 30
    bad = [complaint for kill in kills for complaint in killed_once(room, NEW_FILE_FLOW, kill)]
    assert bad == []


@pytest.mark.parametrize("flow", [NEW_FILE_FLOW, LOCAL_FLOW])
def test_a_scan_whose_runs_are_killed_one_after_the_other_at_every_kind_of_boundary_completes(
    room: Room, flow: str
) -> None:
    kills, bad = killed_all_the_way(room, flow)
    assert kills > 30
    assert bad == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flow", [NEW_FILE_FLOW, LOCAL_FLOW])
def test_a_flow_survives_one_kill_at_every_boundary(room: Room, flow: str) -> None:
    bad = [complaint for kill in each(undisturbed(room, flow)) for complaint in killed_once(room, flow, kill)]
    assert bad == []


