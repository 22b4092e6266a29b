"""A run that a person cancels takes all with it that it started elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from orchestration import errors
from orchestration.errors import OrchestrationError
from orchestration.flows.server import insist, prefect_server
from orchestration.flows.services import Services
from orchestration.ledger import Ledger
from orchestration.ledger.cancel import cancel
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.operations import held
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.service import CancelAnswer

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""How long Prefect may be busy while a signal waits to be understood."""


def cancelling(run_id: str) -> bool:
    """Whether a person asked Prefect to cancel this run; False if its server cannot tell."""

    def ask() -> State | None:
        with prefect_server() as client:
            return client.read_flow_run(UUID(run_id)).state

    try:
        state = insist(ask, seconds=PATIENCE_SECONDS)
    except (OrchestrationError, ObjectNotFound) as error:
        logger.warning("not known whether run %s is being cancelled: %s", run_id, error)
        return False
    return state is not None and state.type in {StateType.CANCELLING, StateType.CANCELLED}


def say_cancelled(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook of every flow (`on_failure`): a run whose work was cancelled at the ledger was cancelled, and did not fail.

    Prefect makes every exception a failure.
    """
    error = state.result(raise_on_failure=False)
    if not isinstance(error, errors.Cancelled):
        return

    def tell() -> None:
        with prefect_server() as client:
            client.set_flow_run_state(flow_run.id, Cancelled(message=error.sentence), force=True)

    try:
        insist(tell, seconds=PATIENCE_SECONDS)
    except OrchestrationError as doubt:
        logger.warning("Prefect was not told that run %s was cancelled: %s", flow_run.id, doubt)


def cancel_run(ledger: Ledger, services: Services, run_id: str) -> Mapping[str, CancelAnswer]:
    """Cancel what this run has going on; the answer for each step."""
    answers = {}
    for operation in _going_on(ledger, run_id):
        answers[operation.step] = cancel_operation(ledger, services, operation)
        logger.info("%s: %s", operation.step, answers[operation.step])
    return answers


def cancel_scan(ledger: Ledger, services: Services, scan_id: str) -> Mapping[str, CancelAnswer]:
    """Cancel all that is going on with a scan, runs of Prefect first; the answer for each step.

    Then the runs themselves that had no step to be cancelled in, or no process any more: or they would go on, and be
    started again.
    """
    still = [operation for operation in ledger.operations.of_scan(scan_id) if operation.state.open]
    still.sort(key=lambda operation: operation.service != "prefect.run")
    answers = {operation.step: cancel_operation(ledger, services, operation) for operation in still}
    told = {operation.run_id for operation in still} | {operation.handle for operation in still}
    for run in ledger.runs.of_scan(scan_id):
        if run.dead(ledger.now()):
            answers[f"run of {run.flow}"] = _bury(ledger, run)
        elif run.state is RunState.RUNNING and run.id not in told:
            answers[f"run of {run.flow}"] = _stop(services, run)
    return answers


def _bury(ledger: Ledger, run: RunRecord) -> CancelAnswer:
    """A run without a process has nothing to stop; it is written down as cancelled, here and in Prefect."""
    ledger.runs.finish(run.id, RunState.CANCELLED, errors.Cancelled("cancelled by a person", where=run.id))

    def tell() -> None:
        with prefect_server() as client:
            try:
                known = client.read_flow_run(UUID(run.id))
            except ObjectNotFound:
                return
            if known.state is None or not known.state.is_final():
                message = "Cancelled by a person; its process was gone"
                client.set_flow_run_state(known.id, Cancelled(message=message), force=True)

    try:
        insist(tell, seconds=PATIENCE_SECONDS)
    except OrchestrationError as doubt:
        logger.warning("Prefect was not told that run %s was cancelled: %s", run.id, doubt)
    return CancelAnswer.CANCELLED


def _stop(services: Services, run: RunRecord) -> CancelAnswer:
    """A run that is between two steps."""
    try:
        return services.prefect_run.cancel(run.id)
    except OrchestrationError as doubt:
        logger.warning("run %s of %s was not cancelled: %s", run.id, run.flow, doubt)
        return CancelAnswer.UNKNOWN


def cancel_operation(ledger: Ledger, services: Services, operation: OperationRecord) -> CancelAnswer:
    """What the service answered; it is asked, too, how it ended."""
    return cancel(ledger, operation.key, services.named(operation.service), services.request_of(operation))


def _going_on(ledger: Ledger, run_id: str) -> Sequence[OperationRecord]:
    """What the run has begun or waits for, and no other run that lives or is waited for wants as well."""
    record = ledger.runs.get(run_id)
    waited_for = set() if record is None else set(record.waiting_for or ())
    others = {key for run in ledger.runs.waiting() if run.id != run_id for key in run.waiting_for or ()}
    own = {operation.key: operation for operation in ledger.operations.of_run(run_id)}
    own |= {operation.key: operation for operation in ledger.operations.among(waited_for)}
    return [
        operation
        for operation in own.values()
        if operation.state.open
        and operation.key not in others
        and (operation.run_id == run_id or not held(operation, ledger.now()))
    ]
