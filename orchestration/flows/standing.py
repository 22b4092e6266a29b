"""How Prefect has the runs that wait: those that were cancelled or deleted there, or have died, are settled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefect.client.schemas.objects import State, StateType

from orchestration.errors import Cancelled, RunFailed
from orchestration.flows.cancelling import cancel_run
from orchestration.flows.services import Services
from orchestration.flows.suspending import ASLEEP, SuspendedRuns
from orchestration.ledger import Ledger
from orchestration.ledger.runs import RunRecord, RunState

logger = logging.getLogger(__name__)

BEGINNING = timedelta(seconds=180)
"""In which a process that was started for a run has told the ledger so, or is dead."""

_STARTING = {StateType.PENDING, StateType.RUNNING, StateType.CANCELLING}


def look_at_runs(
    ledger: Ledger, prefect: SuspendedRuns, runs: Sequence[RunRecord], *, thorough: bool
) -> list[RunRecord]:
    """Close those of these waiting runs that will never go on, and return those that somebody cancelled.

    That a run was deleted is seen only by a `thorough` look, which costs Prefect's server more.

    Raises:
        ServiceUnavailable: if Prefect does not answer.
    """
    ids = [run.id for run in runs]
    known = prefect.states(ids) if thorough else prefect.moved(ids)
    if thorough and len(runs) > 1 and not known:
        logger.error("this Prefect server has none of %d suspended runs: is PREFECT_API_URL right?", len(runs))
        return []
    for run in runs:
        state = known.get(run.id)
        if state is None:
            if thorough:
                _close_deleted(ledger, run)
        elif state.type not in {*ASLEEP, StateType.CANCELLED} and not (state.type in _STARTING and _young(state)):
            logger.warning("%s %s is %s in Prefect, and has no process", run.flow, run.id, state.name)
            ledger.runs.lost(run.id)  # from here on like any other run that died: `reconcile`
    return [run for run in runs if (state := known.get(run.id)) is not None and state.type is StateType.CANCELLED]


def _close_deleted(ledger: Ledger, run: RunRecord) -> None:
    """What it waited for goes on: that Prefect has lost its memory is no wish of anybody to cancel a thousand jobs."""
    error = RunFailed(
        f"Prefect has no run {run.id} of {run.flow} any more: it was deleted while it waited",
        next_step="start the flow again: it carries on with what still goes on",
    )
    if ledger.runs.settle(run.id, RunState.DEAD, error):
        logger.warning("%s", error)


def close_cancelled(ledger: Ledger, services: Services, run: RunRecord) -> bool:
    """Cancel all that a run waited for, and close it in the ledger once that is certain; False if it is not yet."""
    answers = cancel_run(ledger, services, run.id)
    still = [each for each in ledger.operations.among(run.waiting_for or ()) if each.state.open]
    others = {key for other in ledger.runs.waiting() if other.id != run.id for key in other.waiting_for or ()}
    if any(operation.key not in others for operation in still):
        logger.warning("%s %s was cancelled, but not all that it waits for: %s", run.flow, run.id, answers)
        return False
    return ledger.runs.settle(run.id, RunState.CANCELLED, Cancelled("cancelled by a person", where=run.id))


def _young(state: State) -> bool:
    return datetime.now(UTC) - state.timestamp < BEGINNING
