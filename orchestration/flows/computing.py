"""Jobs at a compute site: done once, and submitted again where they ended through no fault of their own."""

from __future__ import annotations

from typing import Final

from orchestration.config import Attempts, ComputeSite, LocalSite
from orchestration.errors import JobFailed, JobLost, JobPreempted, NodeFailed
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger.history import RESERVED
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.service import PollSchedule

_COUNTED: Final = {JobPreempted: "preempted", NodeFailed: "node_failed", JobLost: "lost"}
"""What is nobody's fault, and how the settings call it."""

_HERE = Attempts(preempted=0, node_failed=0, lost=1)
"""This machine preempts nothing. What it loses is certain to be over: its supervisor was killed, or the machine
restarted, as when it is updated. Twice in one run is not that."""


def compute(
    work: Work, operation: Operation[JobSpec], site: ComputeSite, *, ceiling: float = 30.0, redo: bool = True
) -> Outcome:
    """Perform a job at `site`; preempted, lost or on a computer that failed, it is submitted again as the site says.

    It is asked about at least every `ceiling` seconds, but never more often than the site wants to be asked.

    How often it was is counted in the ledger, from the beginning of this run: a run that goes on in another process
    has no more attempts than one that did not have to. Without `redo`, how an attempt has ended by now is its end.

    Raises:
        JobPreempted, NodeFailed, JobLost: when its attempts are used up.
        OperationFailed: (one of its subclasses) when the job did not do its work.
    """
    service = work.services.jobs(site)
    first = PollSchedule().first if isinstance(site, LocalSite) else site.poll_seconds
    schedule = PollSchedule(first=first, ceiling=max(first, ceiling))
    while True:
        try:
            return work.perform(operation, service, schedule=schedule, redo=redo)
        except (JobPreempted, NodeFailed, JobLost) as error:
            used, allowed = _used(work, operation.key, error), _allowed(site, error)
            if used > allowed:
                raise
            work.logger.warning("%s: %s; submitted again (%d of %d)", operation.step, error.what, used, allowed)
            redo = True


def asked_at(work: Work, outcome: Outcome) -> float:
    """When its job was asked for (seconds since the epoch): all that it has read, it read after that."""
    record = outcome.record
    history = work.ledger.operations.history(record.key)
    reserved = [each.at for each in history if (each.attempt, each.event) == (record.attempt, RESERVED)]
    return min([record.began_at, *reserved])  # a run that took it over began later


def _allowed(site: ComputeSite, error: JobFailed) -> int:
    attempts = _HERE if isinstance(site, LocalSite) else site.attempts
    allowed: int = getattr(attempts, _COUNTED[_kind(error)])
    return allowed


def _used(work: Work, key: str, error: JobFailed) -> int:
    """How many attempts ended like this since this run began."""
    run = work.ledger.runs.get(work.run_id)
    since = 0.0 if run is None else run.started_at
    name = _kind(error).__name__
    ends = [each for each in work.ledger.operations.history(key) if each.event == OperationState.FAILED]
    return sum(1 for end in ends if end.at >= since and (end.detail or {}).get("type") == name)


def _kind(error: JobFailed) -> type[JobFailed]:
    return next(kind for kind in _COUNTED if isinstance(error, kind))
