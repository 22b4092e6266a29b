"""Runs that died between a word to the ledger and one to Prefect: `reconcile` makes both tell the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from trial_room import NEW_FILE, Room

from orchestration.ledger.runs import RunState
from orchestration.sandbox.trials.kills import Kill, each

RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"
BEGINNING = Kill(nth=1)
"""Prefect has been told that the run has begun, and the ledger has not."""


def last_of(room: Room) -> Kill:
    """The ledger has been told that the run has ended, and Prefect has not."""
    ended = room.run(NEW_FILE, file_path=room.scan())
    assert ended.completed, ended
    return each(ended.boundaries)[-1]


def reconciled(room: Room) -> dict[str, list[Any]]:
    ended = room.run(RECONCILE)
    assert ended.completed, ended
    value: dict[str, list[Any]] = ended.value
    return value


def found_dead(room: Room, file_path: str) -> list[str]:
    """What `reconcile` does about dead runs of this scan; those of other tests come of age at any time."""
    mine = {run_id for run_id, _, _ in room.prefect_runs(file_path)}
    return [each["action"] for each in reconciled(room)["dead_runs"] if each["run"] in mine]


def let_prefect_age(room: Room) -> None:
    """All runs that Prefect has as running began ten minutes earlier."""
    older = "strftime('%Y-%m-%d %H:%M:%f', timestamp, '-10 minutes') || '000'"
    with closing(sqlite3.connect(room.world.layout.prefect / "prefect.db", timeout=60.0)) as database, database:
        changed = database.execute(f"update flow_run_state set timestamp = {older} where type = 'RUNNING'")
        assert changed.rowcount > 0


def runs(room: Room, file_path: str) -> list[tuple[RunState, str]]:
    """Of each run of a scan, its state in the ledger and in Prefect."""
    in_ledger = [run.state for run in room.overview(file_path).runs]
    return list(zip(in_ledger, [state for state, _ in room.prefect_states(file_path)], strict=True))


@pytest.mark.slow
def test_prefect_is_told_of_an_end_that_only_the_ledger_knows(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, kill=last_of(room)).killed
    assert runs(room, file_path) == [(RunState.COMPLETED, "RUNNING")]
    mine = {run.id for run in room.overview(file_path).runs}
    assert mine <= set(reconciled(room)["told_to_prefect"])
    assert runs(room, file_path) == [(RunState.COMPLETED, "COMPLETED")]
    assert not mine & set(reconciled(room)["told_to_prefect"])


@pytest.mark.slow
def test_a_run_that_was_never_heard_of_is_dead_once_it_ought_to_have_been(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, kill=BEGINNING).killed
    assert found_dead(room, file_path) == []  # it may be about to tell
    assert [state for state, _ in room.prefect_states(file_path)] == ["RUNNING"]
    let_prefect_age(room)
    assert found_dead(room, file_path) == ["closed: it was started by hand; start it again by hand"]
    assert [state for state, _ in room.prefect_states(file_path)] == ["CRASHED"]
    assert found_dead(room, file_path) == []
    assert room.run(NEW_FILE, file_path=file_path).completed
