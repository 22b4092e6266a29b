"""Cancelling all that is going on with a scan, wherever it stands: queued, running, suspended, or left by the dead."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from functools import partial

from prefect.client.schemas.objects import FlowRun

from orchestration.errors import ConfigError, OrchestrationError
from orchestration.flows.cancelling import PATIENCE_SECONDS, Answered, all_at_once, bury, cancel_operations
from orchestration.flows.queued import runs_of_file
from orchestration.flows.server import insist
from orchestration.flows.services import Services
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer

logger = logging.getLogger(__name__)

ENDING_SECONDS = 5.0
"""In which a run ends by itself once what it waited for was cancelled; after that its worker is told to stop it."""

LOOK_SECONDS = 0.1

ROUNDS = 3
"""A run may have started another while it was being cancelled; that one may have, too."""

_QUEUED = "runs that have not begun"

_UNFINISHED = {RunState.RUNNING, RunState.WAITING, RunState.CANCELLING}


def cancel_scan(ledger: Ledger, services: Services, scan: Scan) -> list[Answered]:
    """What came of it for each operation; and for each run of which that says nothing, being between two steps."""
    answers: dict[str, Answered] = {}
    ended: dict[str, Answered] = {}
    told: set[str] = set()
    for _ in range(ROUNDS):
        runs = [run for run in ledger.runs.of_scan(scan.id) if run.state in _UNFINISHED and run.id not in ended]
        for run in runs:
            ledger.runs.request_cancel(run.id)
        queued = _stop_queued(ledger, services, scan, known={*answers, *ended, *(run.id for run in runs)})
        operations = [
            each for each in ledger.operations.of_scan(scan.id) if each.state.open and each.key not in answers
        ]
        if not (runs or queued or operations):
            break
        said = cancel_operations(ledger, services, operations)
        told |= _told(operations, said)
        answers |= {each.key: each for each in [*said, *queued]}
        ends = [partial(_end, ledger, services, run, said) for run in runs]
        ended |= {each.key: each for each in all_at_once(ends)}
    return [each for each in (answers | ended).values() if not (each.certain and each.key in told)]


def _told(operations: Sequence[OperationRecord], answers: Sequence[Answered]) -> set[str]:
    """Runs of which these answers say enough: they were such an operation, or ended with one that was cancelled."""
    cancelled = {each.key for each in answers if each.answer is CancelAnswer.CANCELLED}
    ended = {each.run_id for each in operations if each.key in cancelled}
    return {run for run in ended | {each.handle for each in operations} if run is not None}


def _stop_queued(ledger: Ledger, services: Services, scan: Scan, *, known: Collection[str]) -> list[Answered]:
    """Runs that Prefect has for the file of the scan, and that no process has taken up yet, as far as is known here."""
    beamline = services.beamline(scan.beamline)
    if beamline is None or _QUEUED in known:
        return []
    try:
        runs = insist(partial(runs_of_file, beamline, scan.path), seconds=PATIENCE_SECONDS)
    except ConfigError as error:
        logger.info("no runs are queued, as far as is known here: %s", error.what)
        return []
    except OrchestrationError as doubt:
        return [_answered(_QUEUED, _QUEUED, CancelAnswer.UNKNOWN, doubt.what)]
    return all_at_once([partial(_stop_one, ledger, services, run) for run in runs if str(run.id) not in known])


def _stop_one(ledger: Ledger, services: Services, run: FlowRun) -> Answered:
    ledger.runs.request_cancel(str(run.id))
    return _answered(str(run.id), f"run {run.name}", *_stopped(services, str(run.id)))


def _end(ledger: Ledger, services: Services, run: RunRecord, answers: Sequence[Answered]) -> Answered:
    """A run of which all operations were cancelled ends by itself, by its worker, or for want of a process."""
    why = ""
    if _lives(ledger, run, seconds=ENDING_SECONDS):
        _, why = _stopped(services, run.id)
    now = ledger.runs.get(run.id) or run
    if now.dead(ledger.now()):
        now = bury(ledger, services, now, answers)
    what = f"run of {run.flow}"
    if now.state is RunState.CANCELLED:
        return _answered(run.id, what, CancelAnswer.CANCELLED)
    if now.state not in _UNFINISHED:
        return _answered(run.id, what, CancelAnswer.ALREADY_FINISHED)
    why = why or (now.error.what if now.error else "its process goes on; it begins nothing more")
    return _answered(run.id, what, CancelAnswer.UNKNOWN, why)


def _lives(ledger: Ledger, run: RunRecord, *, seconds: float) -> bool:
    """Whether it has a process, and has not ended within this time."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        now = ledger.runs.get(run.id) or run
        if now.state not in _UNFINISHED or now.dead(ledger.now()):
            return False
        if time.monotonic() > until:
            return True
        pause.wait(LOOK_SECONDS)


def _stopped(services: Services, run_id: str) -> tuple[CancelAnswer, str]:
    """What Prefect answered, and what keeps it from an answer."""
    try:
        return services.prefect_run.cancel(run_id), ""
    except OrchestrationError as doubt:
        logger.warning("run %s was not cancelled: %s", run_id, doubt)
        return CancelAnswer.UNKNOWN, doubt.what


def _answered(key: str, what: str, answer: CancelAnswer, why: str = "") -> Answered:
    return Answered(key=key, what=what, answer=answer, why=why)
