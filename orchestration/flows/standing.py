"""How Prefect has the runs that wait: those that were cancelled or deleted there, or have died, are settled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Completed, Crashed, Failed

from orchestration.errors import RunFailed
from orchestration.flows.cancelling import going_on
from orchestration.flows.suspending import ASLEEP, CANCELLED, SuspendedRuns
from orchestration.ledger import Ledger
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import LEASE_SECONDS, RunRecord, RunState

logger = logging.getLogger(__name__)

BEGINNING = timedelta(seconds=180)
"""In which a process that was started for a run has told the ledger so, or is dead."""

RECONCILE = "reconcile"
"""The flow that finds what has died."""

_ENDS = {
    RunState.COMPLETED: Completed,
    RunState.FAILED: Failed,
    RunState.CANCELLED: Cancelled,
    RunState.DEAD: Crashed,
}

_STARTING = {StateType.PENDING, StateType.RUNNING}


def hear_cancelled(ledger: Ledger, prefect: SuspendedRuns, runs: Sequence[RunRecord]) -> None:
    """Write down which of these runs somebody has cancelled in Prefect, and that what they have going on is to end.

    A suspended run has no process that could hear of it, and one whose worker is gone has nobody who would tell it.

    Raises:
        ServiceUnavailable: if Prefect does not answer.
    """
    for run_id in prefect.cancelled([run.id for run in runs]):
        if ledger.runs.request_cancel(run_id):
            logger.info("run %s was cancelled in Prefect", run_id)
            for operation in going_on(ledger, run_id):
                ledger.operations.request_cancel(operation.key)


def look_at_runs(ledger: Ledger, prefect: SuspendedRuns, runs: Sequence[RunRecord], *, thorough: bool) -> None:
    """Close those of these waiting runs that will never go on.

    That a run was deleted is seen only by a `thorough` look, which costs Prefect's server more.

    Raises:
        ServiceUnavailable: if Prefect does not answer.
    """
    ids = [run.id for run in runs]
    known = prefect.states(ids) if thorough else prefect.moved(ids)
    if thorough and len(runs) > 1 and not known:
        logger.error("this Prefect server has none of %d suspended runs: is PREFECT_API_URL right?", len(runs))
        return
    for run in runs:
        state = known.get(run.id)
        if state is None:
            if thorough:
                _close_deleted(ledger, run)
        elif state.type not in {*ASLEEP, *CANCELLED} and not (state.type in _STARTING and young(state)):
            logger.warning("%s %s is %s in Prefect, and has no process", run.flow, run.id, state.name)
            ledger.runs.lost(run.id)  # from here on like any other run that died: `reconcile`


def free_reconcile(ledger: Ledger, prefect: SuspendedRuns) -> None:
    """Close runs of `reconcile` that have died: each keeps a place of its queue, and once they have all, no other one
    would ever find them.

    Raises:
        ServiceUnavailable: if Prefect does not answer.
    """
    for run_id, state in prefect.begun(RECONCILE).items():
        run = ledger.runs.get(run_id)
        if run is None and not young(state):
            prefect.tell(run_id, Crashed(message="It began, and nothing was heard of it since"))
        elif run is not None and over(run, state, ledger.now()):
            prefect.tell(run_id, ended(run))
        elif run is not None and run.dead(ledger.now()):
            prefect.tell(run_id, Crashed(message="Its process is gone without a word"))
            ledger.runs.finish(run_id, RunState.DEAD)
        else:
            continue
        logger.warning("%s %s was %s in Prefect, and has no process", RECONCILE, run_id, state.name)


def over(run: RunRecord, state: State, now: float) -> bool:
    """Whether a run that Prefect has in this state has ended for good: somebody may have Prefect start the same run
    again, and that has begun since.
    """
    if run.finished_at is None or run.state not in _ENDS:
        return False
    gone = Owner.parse(run.owner).certainly_dead() or now - run.finished_at > LEASE_SECONDS
    return gone and state.timestamp <= datetime.fromtimestamp(run.finished_at, UTC)


def ended(run: RunRecord) -> State:
    """What Prefect is told of a run that has ended, and could not say so."""
    message = f"{run.error.what if run.error else 'It has ended'}; its process could not tell this itself"
    return _ENDS[run.state](message=message)


def _close_deleted(ledger: Ledger, run: RunRecord) -> None:
    """What it waited for goes on: that Prefect has lost its memory is no wish of anybody to cancel a thousand jobs."""
    error = RunFailed(
        f"Prefect has no run {run.id} of {run.flow} any more: it was deleted while it waited",
        next_step="start the flow again: it carries on with what still goes on",
    )
    if ledger.runs.forgotten(run.id, error):
        logger.warning("%s", error)


def young(state: State, *, at: datetime | None = None) -> bool:
    """Whether a run that was started may not have come to the ledger yet, now or at another time."""
    return (at or datetime.now(UTC)) - state.timestamp < BEGINNING
