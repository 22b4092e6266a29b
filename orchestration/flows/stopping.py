"""Cancelling all that is going on with a scan, wherever it stands: queued, running, suspended, or left by the dead."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from prefect.client.schemas.objects import FlowRun

from orchestration.errors import Cancelled, ConfigError, OrchestrationError
from orchestration.flows.cancelling import (
    PATIENCE_SECONDS,
    Answered,
    all_at_once,
    bury,
    cancel_operations,
    going_on,
)
from orchestration.flows.carriers import UNFINISHED, carriers, others_in
from orchestration.flows.queued import others_of, runs_of_scan
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


def cancel_scan(ledger: Ledger, services: Services, scan: Scan, *, whole_batch: bool = False) -> list[Answered]:
    """What came of it for each operation; and for each run of which that says nothing, being between two steps.

    What others of its batch go with is spared, and named with them, unless the `whole_batch` is to be cancelled.
    """
    stopping = _Stopping(ledger, services, scan, whole_batch=whole_batch)
    for _ in range(ROUNDS):
        if not stopping.round():
            break
    return stopping.answers()


@dataclass
class _Stopping:
    ledger: Ledger
    services: Services
    scan: Scan
    whole_batch: bool
    answered: dict[str, Answered] = field(default_factory=dict)
    """Operations, and runs that had not begun."""
    ended: dict[str, Answered] = field(default_factory=dict)
    spared: dict[str, Answered] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def round(self) -> bool:
        """Cancel what goes on now; whether there was anything."""
        others = {each.run.id: each.others for each in carriers(self.ledger, self.scan)}
        runs = self._runs(others)
        for run in runs:
            self.ledger.runs.request_cancel(run.id)
        queued = self._stop_queued(known={*self.answered, *self.ended, *self.spared, *(run.id for run in runs)})
        operations = self._operations([run.id for run in runs if run.id in others])
        if not (runs or queued or operations):
            return False
        said = cancel_operations(self.ledger, self.services, operations)
        self.told |= _told(operations, said)
        self.answered |= {each.key: each for each in [*said, *queued]}
        ends = all_at_once([partial(_end, self.ledger, self.services, run, said) for run in runs])
        self.ended |= {each.key: replace(each, others=others.get(each.key, ())) for each in ends}
        return True

    def answers(self) -> list[Answered]:
        """What is told already by others is left out, unless it had more to do than this scan."""
        found = (self.answered | self.ended).values()
        return [
            *self.spared.values(),
            *(each for each in found if each.others or not (each.certain and each.key in self.told)),
            *self._withdrawn(),
        ]

    def _runs(self, others: Mapping[str, tuple[str, ...]]) -> list[RunRecord]:
        """Those of the scan, and those that carry it: unless others go with it, which then are spared."""
        carrying = [run for run in map(self.ledger.runs.get, others) if run is not None]
        for run in carrying:
            if others[run.id] and not self.whole_batch:
                self.spared[run.id] = _spared(run.id, f"run of {run.flow}", others[run.id])
        runs = [*self.ledger.runs.of_scan(self.scan.id), *carrying]
        return [run for run in runs if run.state in UNFINISHED and run.id not in {*self.ended, *self.spared}]

    def _operations(self, carrying: Collection[str]) -> list[OperationRecord]:
        """Open ones of the scan, and of the runs that carry it; what goes on with others for no run of it is spared."""
        found = {each.key: each for each in self.ledger.operations.of_scan(self.scan.id) if each.state.open}
        found |= {each.key: each for run_id in carrying for each in going_on(self.ledger, run_id)}
        own = {run.id for run in self.ledger.runs.of_scan(self.scan.id)} | {*carrying}
        for each in found.values():
            others = () if self.whole_batch or each.run_id in own else others_in(self.ledger, each, self.scan)
            if others and each.run_id not in self.spared:
                self.spared[each.key] = _spared(each.key, each.step, others)
        left_alone = {*self.answered, *self.spared}
        return [each for each in found.values() if each.key not in left_alone and each.run_id not in self.spared]

    def _stop_queued(self, *, known: Collection[str]) -> list[Answered]:
        """Runs that Prefect has for the file of the scan, and that no process has taken up yet, as far as is known."""
        beamline = self.services.beamline(self.scan.beamline)
        if beamline is None or _QUEUED in known:
            return []
        try:
            runs = insist(partial(runs_of_scan, self.ledger, beamline, self.scan), seconds=PATIENCE_SECONDS)
        except ConfigError as error:
            logger.info("no runs are queued, as far as is known here: %s", error.what)
            return []
        except OrchestrationError as doubt:
            return [_answered(_QUEUED, _QUEUED, CancelAnswer.UNKNOWN, doubt.what)]
        new = {
            str(run.id): (run, others_of(self.ledger, run, beamline, self.scan.path))
            for run in runs
            if str(run.id) not in known
        }
        if not self.whole_batch:
            self.spared |= {id: _spared(id, f"run {run.name}", others) for id, (run, others) in new.items() if others}
        stopped = [
            partial(_stop_one, self.ledger, self.services, run, others)
            for id, (run, others) in new.items()
            if id not in self.spared
        ]
        return all_at_once(stopped)

    def _withdrawn(self) -> list[Answered]:
        """What is left of a run that failed would be carried by the next one that comes along."""
        why = Cancelled("cancelled by a person before it was carried", where=self.scan.path.text)
        if not self.ledger.arrivals.withdraw(self.scan.id, why):
            return []
        return [_answered(self.scan.id, "what a run that has ended had left to be carried", CancelAnswer.CANCELLED)]


def _spared(key: str, what: str, others: tuple[str, ...]) -> Answered:
    return Answered(key=key, what=what, answer=CancelAnswer.REFUSED, others=others, spared=True)


def _told(operations: Sequence[OperationRecord], answers: Sequence[Answered]) -> set[str]:
    """Runs of which these answers say enough: they were such an operation, or ended with one that was cancelled."""
    cancelled = {each.key for each in answers if each.answer is CancelAnswer.CANCELLED}
    ended = {each.run_id for each in operations if each.key in cancelled}
    return {run for run in ended | {each.handle for each in operations} if run is not None}


def _stop_one(ledger: Ledger, services: Services, run: FlowRun, others: tuple[str, ...]) -> Answered:
    ledger.runs.request_cancel(str(run.id))
    return replace(_answered(str(run.id), f"run {run.name}", *_stopped(services, str(run.id))), others=others)


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
    if now.state not in UNFINISHED:
        return _answered(run.id, what, CancelAnswer.ALREADY_FINISHED)
    why = why or (now.error.what if now.error else "its process goes on; it begins nothing more")
    return _answered(run.id, what, CancelAnswer.UNKNOWN, why)


def _lives(ledger: Ledger, run: RunRecord, *, seconds: float) -> bool:
    """Whether it has a process, and has not ended within this time."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        now = ledger.runs.get(run.id) or run
        if now.state not in UNFINISHED or now.dead(ledger.now()):
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
