"""The last look at what is to be deleted: after the proofs, directly before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from test_chaos_deletion import audit, rewrite, shorten, state
from test_chaos_sweep import HOUR, deletions, overdue, swept, there
from trial_room import LOCAL, Room

from orchestration.config import Endpoint
from orchestration.errors import DeletionUnproven, ServiceUnavailable
from orchestration.flows import deleting, nightly
from orchestration.flows.quarantining import written_since
from orchestration.flows.services import Services
from orchestration.flows.work import Work
from orchestration.globus import auth
from orchestration.ledger.audit import Verdict
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.copy import CopyState, Proven
from orchestration.ledger.runs import RunState
from orchestration.sandbox import documents

pytestmark = [pytest.mark.usefixtures("here"), pytest.mark.slow]

STAT = "GET .*/stat"
NEVER = 0
"""As `times` of a fault: it does not end."""


def impatient(work: Work) -> Work:
    """One that asks a collection that does not answer for a second only."""
    transfer = work.settings.transfer.model_copy(update={"min_seconds": 1.0})
    settings = work.settings.model_copy(update={"transfer": transfer})
    return replace(work, settings=settings, services=Services(settings))


@contextmanager
def before_the_last_look(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> Iterator[Sequence[str]]:
    """Something happens, once, when the copies at the detector are proved; yields the paths of those that are.

    Only that look is impatient: whatever is asked before it may take as long as it does on a busy machine.
    """
    proved: list[str] = []

    def look(work: Work, endpoint: Endpoint, proven: Sequence[Proven]) -> Mapping[int, DeletionUnproven]:
        if endpoint.name != "spot832" or proved:
            return written_since(work, endpoint, proven)
        proved.extend(each.copy.path.text for each in proven)
        happens()
        patch.setattr(auth, "_TIMEOUT", 2.0)
        return written_since(impatient(work), endpoint, proven)

    with monkeypatch.context() as patch:
        patch.setattr(deleting, "written_since", look)
        yield proved


def two_overdue(room: Room) -> Sequence[str]:
    scans = [room.moved_scan() for _ in range(2)]
    overdue(room, *scans)
    return scans


def is_out_of_order(room: Room) -> None:
    room.world.facility.collections.set(room.collection("spot832"), connected=False)


def hangs_up(room: Room) -> None:
    room.world.facility.faults.add(STAT, "drop", times=NEVER)


def takes_too_long(room: Room) -> None:
    room.world.facility.faults.add(STAT, "latency", delay=30.0, times=NEVER)


@pytest.mark.parametrize("falls_silent", [is_out_of_order, hangs_up, takes_too_long])
def test_a_collection_that_does_not_answer_is_asked_for_nothing_and_the_next_night_tries_again(
    room: Room, monkeypatch: pytest.MonkeyPatch, falls_silent: Callable[[Room], None]
) -> None:
    scans = two_overdue(room)
    with (
        before_the_last_look(monkeypatch, lambda: falls_silent(room)) as proved,
        pytest.raises(ServiceUnavailable) as told,
    ):
        nightly.sweep_deletions(dry_run=False)
    assert {each.removeprefix("/global/") for each in scans} <= set(proved)
    assert "spot832" in told.value.sentence
    with room.world.ledger() as ledger:
        run = max(ledger.runs.in_state(RunState.FAILED), key=lambda each: each.started_at)
    assert (run.flow, run.error and run.error.sentence) == (nightly.NAME, told.value.sentence)
    assert [there(room, each) for each in scans] == [True, True]
    assert [deletions(room, each) for each in scans] == [0, 0]
    assert [audit(room, each) for each in scans] == [[], []]
    room.calm()
    overdue(room, *scans)
    assert swept(room).completed
    assert [there(room, each) for each in scans] == [False, False]
    assert [deletions(room, each) for each in scans] == [1, 1]


@pytest.mark.parametrize("spoil", [shorten, rewrite, Path.unlink], ids=["shorter", "rewritten", "vanished"])
def test_of_those_that_go_together_only_what_is_not_what_was_proved_is_left_to_the_next_night(
    room: Room, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    good, spoilt = two_overdue(room)
    file = room.file("spot832", spoilt)
    with before_the_last_look(monkeypatch, lambda: spoil(file)) as proved:
        told = nightly.sweep_deletions(dry_run=False)
    assert {each.removeprefix("/global/") for each in (good, spoilt)} <= set(proved)
    (why,) = [each for each in documents.strings(told, "why") if file.name in each]
    assert "while its deletion was being proved" in why
    assert (there(room, good), deletions(room, good)) == (False, 1)
    assert (state(room, "spot832", spoilt), deletions(room, spoilt)) == (CopyState.PRESENT, 0)
    assert [line.verdict for line in audit(room, spoilt)] == [Verdict.REFUSED]
    vanished = not file.exists()
    assert swept(room).completed
    assert deletions(room, spoilt) == 0
    assert file.exists() is not vanished
    assert state(room, "spot832", spoilt) is (CopyState.DELETED if vanished else CopyState.PRESENT)


def test_a_night_names_what_was_replaced_on_a_disk_of_this_machine_and_deletes_the_others(room: Room) -> None:
    scans = [room.moved_scan() for _ in range(3)]
    assert all(room.run(LOCAL, file_path=each).completed for each in scans)
    overdue(room, *scans, endpoint="local832_raw")
    found = [copy for each in scans for copy in room.overview(each).copies if copy.endpoint == "local832_raw"]
    files = [room.world.root("local832_raw") / copy.path.text for copy in found]
    for file in files:
        os.utime(file, (time.time() - 3 * HOUR,) * 2)  # as old as its copy is made
    replaced: list[Path] = []

    def replace(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.BEFORE_SUBMIT and "at local832_raw" in subject and not replaced:
            replaced.append(files[1].rename(files[1].with_name("before.h5")))
            files[1].write_bytes(replaced[0].read_bytes())

    with listening(replace):
        told = nightly.sweep_deletions(dry_run=False)
    assert replaced
    (why,) = [each for each in documents.strings(told, "why") if files[1].name in each]
    assert "is not what it was" in why
    assert [file.exists() for file in files] == [False, True, False]
    assert [state(room, "local832_raw", each) for each in scans] == [
        CopyState.DELETED,
        CopyState.PRESENT,
        CopyState.DELETED,
    ]
    last = [line for line in audit(room, scans[1]) if line.endpoint == "local832_raw"][-1]
    assert (last.verdict, last.reason in why) == (Verdict.REFUSED, True)
