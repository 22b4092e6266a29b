"""Streaming at NERSC: it lasts as long as it was asked to, and ends when it is told to."""

from __future__ import annotations

import threading
import time

from trial_room import Room

from orchestration.ledger.operation import OperationState
from orchestration.ledger.runs import RunState

STREAM = "orchestration.flows.bl832.streaming:nersc_streaming_flow"


def jobs_that_go_on(room: Room) -> list[str]:
    return [job.name for job in room.world.facility.superfacility.jobs() if not job.over]


def test_a_session_ends_well_at_the_end_of_its_time(room: Room) -> None:
    ended = room.run(STREAM, walltime=1.5)
    assert ended.completed, ended
    record = ended.value["outputs"][0]["content"]
    assert record["ended"] == "at the end of its time"
    assert record["seconds"] > 1.0
    assert jobs_that_go_on(room) == []


def test_a_session_without_a_length_is_refused(room: Room) -> None:
    ended = room.run(STREAM, walltime=0)
    assert ended.error_type == "InvalidInput"


def test_a_session_that_is_cancelled_ends_at_the_facility(room: Room) -> None:
    child = room.start(STREAM, walltime=600)
    until = time.monotonic() + 60
    with room.world.ledger() as ledger:
        while not (
            opened := [one for one in ledger.operations.open() if one.handle and one.step.startswith("stream ")]
        ):
            assert time.monotonic() < until, "it was not submitted"
            threading.Event().wait(0.05)
        assert ledger.operations.request_cancel(opened[0].key)
        ended = child.wait()
        assert ended.error_type == "Cancelled", ended
        assert ledger.operations.get(opened[0].key).state is OperationState.CANCELLED
        run = ledger.runs.get(str(opened[0].run_id))
        assert run is not None
        assert run.state is RunState.CANCELLED
    assert jobs_that_go_on(room) == []
