"""Answers that never come, refusals for a moment, and facilities that go away: a run carries on by itself."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from trial_room import LOCAL, NEW_FILE, TARGETS, Room

from orchestration.ledger.overview import ScanState
from orchestration.sandbox.trials.audit import LOCAL_FLOW, NEW_FILE_FLOW
from orchestration.sandbox.trials.kills import Ended

CRAWL = 10.0
"""Bytes per second: a scan that has begun to move does not arrive until that is changed."""

REQUESTS = 40
"""More than a flow sends to the facility."""


def every_tenth_request(room: Room, kind: str, *, status: int = 503) -> None:
    """Fails, or so: at fixed places without a rhythm, in which what asks several things at once would be caught."""
    chosen = [number for number in range(1, 2 * REQUESTS) if random.Random(number).random() < 0.1]
    for earlier, number in enumerate(chosen):  # each rule sees only what the earlier ones have let pass
        room.world.facility.faults.add(r".*", kind, status=status, times=1, skip=number - earlier)


@pytest.mark.parametrize("kind", ["lost_answer", "drop", "status"])
def test_a_new_file_arrives_although_every_tenth_request_fails(room: Room, kind: str) -> None:
    file_path = room.scan()
    every_tenth_request(room, kind)
    ended = room.run(NEW_FILE, file_path=file_path)
    assert ended.completed, ended
    assert room.complaints(file_path, NEW_FILE_FLOW) == []


def test_a_local_reconstruction_is_catalogued_although_every_tenth_answer_is_lost(room: Room) -> None:
    file_path = room.moved_scan()
    every_tenth_request(room, "lost_answer")
    ended = room.run(LOCAL, file_path=file_path)
    assert ended.completed, ended
    assert room.complaints(file_path, NEW_FILE_FLOW, LOCAL_FLOW) == []


def test_a_service_that_asks_to_come_back_later_is_asked_later(room: Room) -> None:
    file_path = room.scan()
    for match in (r"GET /transfer/submission_id", r"POST /transfer/transfer", r"POST /scicat/api/v3/[Dd]atasets"):
        room.world.facility.faults.add(match, "status", status=429, retry_after=1, times=1)
    ended = room.run(NEW_FILE, file_path=file_path)
    assert ended.completed, ended
    assert room.complaints(file_path, NEW_FILE_FLOW) == []


def during_the_first_transfer(room: Room, disturb: Callable[[str], None]) -> tuple[str, Ended]:
    """A new file whose first transfer goes on for as long as `disturb`, which is called meanwhile."""
    data832 = room.collection("data832")
    room.world.facility.collections.set(data832, bandwidth=CRAWL)
    file_path = room.scan()
    child = room.start(NEW_FILE, file_path=file_path)
    pause = threading.Event()
    while "transfer" not in room.effects(file_path):
        pause.wait(0.02)
    disturb(data832)
    room.world.facility.collections.set(data832, bandwidth=0.0, connected=True)
    return file_path, child.wait()


def expire_tokens(room: Room, _: str) -> None:
    assert room.world.facility.expire_tokens() > 0


def go_offline(room: Room, collection: str) -> None:
    room.world.facility.collections.set(collection, connected=False)
    threading.Event().wait(1.5)


def restart(room: Room, _: str) -> None:
    room.world.kill("facility")
    threading.Event().wait(1.0)
    room.world.start("facility")


def restart_prefect(room: Room, _: str) -> None:
    room.world.kill("prefect")
    threading.Event().wait(0.5)
    room.world.start("prefect")


@pytest.mark.parametrize(
    "disturb", [expire_tokens, go_offline, restart, pytest.param(restart_prefect, marks=pytest.mark.slow)]
)
def test_a_new_file_arrives_although_something_goes_away_during_its_transfer(
    room: Room, disturb: Callable[[Room, str], None]
) -> None:
    file_path, ended = during_the_first_transfer(room, lambda collection: disturb(room, collection))
    assert ended.completed, ended
    assert room.complaints(file_path, NEW_FILE_FLOW) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("flow", "kind", "first"), [(NEW_FILE_FLOW, "drop", 2), (LOCAL_FLOW, "lost_answer", 0)])
def test_a_flow_completes_although_one_request_fails(room: Room, flow: str, kind: str, first: int) -> None:
    """Every fourth of them, each in a run of its own."""
    scans = {}
    for number in range(first, REQUESTS, 4):
        file_path = room.scan() if flow == NEW_FILE_FLOW else room.moved_scan()
        rule = room.world.facility.faults.add(r".*", kind, skip=number)
        ended = room.run(TARGETS[flow], file_path=file_path)
        assert ended.completed, (number, ended)
        scans[file_path] = number
        hits = next(one.hits for one in room.world.facility.faults.every() if one.id == rule.id)
        room.calm()
        if not hits:
            break
    flows = (NEW_FILE_FLOW,) if flow == NEW_FILE_FLOW else (NEW_FILE_FLOW, flow)
    audit = room.audit()
    bad = [f"{number}: {one}" for path, number in scans.items() for one in audit.complaints(path, flows=flows)]
    assert bad == []


@pytest.mark.slow
def test_what_is_cancelled_from_the_command_line_is_cancelled_everywhere(room: Room) -> None:
    room.world.facility.collections.set(room.collection("data832"), bandwidth=CRAWL)
    file_path = room.scan()
    child = room.start(NEW_FILE, file_path=file_path)
    pause = threading.Event()
    while "transfer" not in room.effects(file_path):
        pause.wait(0.02)
    stem = Path(file_path).stem
    answer = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "cancel", stem],
        env={**os.environ, **room.world.environment},
        capture_output=True,
        text=True,
        timeout=180.0,
        check=False,
    )
    assert answer.returncode == 0, answer
    assert child.wait().error_type == "Cancelled"
    assert [state for state, _ in room.prefect_states(file_path)] == ["CANCELLED"]
    assert room.overview(file_path).state is ScanState.CANCELLED
    room.calm()
    room.world.facility.collections.set(room.collection("data832"), bandwidth=0.0)
    assert "copied" not in room.effects(file_path)
    assert room.run(NEW_FILE, file_path=file_path).completed
