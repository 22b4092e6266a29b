"""What is cancelled takes all with it that it started elsewhere.

A run that somebody cancels is marked in the ledger first. From then on it begins nothing more, whichever process of it
lives; and whoever comes by (its own process, `beamline cancel`, the watcher, `reconcile`) cancels what it has going on,
until each service has confirmed that. Only then the run is closed as cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
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
from orchestration.ledger.cancel import Cancellation, cancel
from orchestration.ledger.claims import held
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.service import CancelAnswer, Document

T = TypeVar("T")

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""How long Prefect may be busy while a signal waits to be understood."""

AT_ONCE = 8
"""So many operations are cancelled at the same time."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What came of the wish to cancel one operation, or one run."""

    key: str
    """Of the operation; the id of the run."""
    what: str
    """The step of the operation; ``run of <flow>``."""
    answer: CancelAnswer
    why: str = ""
    others: tuple[str, ...] = ()
    """What else it carries, or did: that was cancelled with it."""
    spared: bool = False
    """It goes on for the sake of those."""

    @property
    def certain(self) -> bool:
        """It does not go on."""
        return self.answer in {CancelAnswer.CANCELLED, CancelAnswer.ALREADY_FINISHED}

    @property
    def sentence(self) -> str:
        return f"{self.what}: {self.answer.value}" + (f" ({self.why})" if self.why else "")

    def document(self) -> Document:
        told: Document = {"step": self.what, "key": self.key, "answer": self.answer.value, "why": self.why}
        return {**told, "others": [*self.others], "spared": self.spared}


# ----- as Prefect tells and is told ---------------------------------------------------------------------------------


def cancelling(ledger: Ledger, run_id: str) -> bool:
    """Whether a person cancelled this run; False if Prefect's server cannot tell."""
    record = ledger.runs.get(run_id)
    if record is not None and record.state is RunState.CANCELLING:
        return True

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


# ----- operations ---------------------------------------------------------------------------------------------------


def cancel_operations(ledger: Ledger, services: Services, operations: Sequence[OperationRecord]) -> list[Answered]:
    """Cancel all of these at the same time; what keeps one of them from being cancelled keeps no other.

    All are asked for before any is waited for: a process that is killed meanwhile has passed the wish on.
    """
    for operation in operations:
        ledger.operations.request_cancel(operation.key)
    return all_at_once([partial(_cancel_operation, ledger, services, operation) for operation in operations])


def _cancel_operation(ledger: Ledger, services: Services, operation: OperationRecord) -> Answered:
    said = Cancellation(answer=CancelAnswer.UNKNOWN)
    try:
        said = cancel(
            ledger,
            operation.key,
            services.named(operation.service),
            services.request_of(operation),
            settle_seconds=services.settle_seconds(operation.service),
        )
    except OrchestrationError as error:
        said = replace(said, why=error.what)
    except Exception as error:
        logger.exception("%s: an error nobody planned for", operation.step)
        said = replace(said, why=f"{type(error).__name__}: {error}")
    answered = Answered(key=operation.key, what=operation.step, answer=said.answer, why=said.why)
    logger.info("%s", answered.sentence)
    return answered


def going_on(ledger: Ledger, run_id: str) -> list[OperationRecord]:
    """What the run has begun or waits for, and no other run that lives or is waited for wants as well."""
    record = ledger.runs.get(run_id)
    waited_for = {} if record is None else record.awaits
    others = {key for run in ledger.runs.waiting() if run.id != run_id for key in run.awaits}
    own = {operation.key: operation for operation in ledger.operations.of_run(run_id)}
    own |= {operation.key: operation for operation in ledger.operations.among(waited_for)}
    return [
        operation
        for operation in own.values()
        if operation.state.open
        and operation.key not in others
        and (operation.run_id == run_id or not held(operation, ledger.now()))
    ]


# ----- runs ---------------------------------------------------------------------------------------------------------


def end_run(ledger: Ledger, services: Services, run_id: str) -> None:
    """Cancel all that a run has going on, in its own process, and close it if that was confirmed.

    Prefect is told by the worker, who has ended this process.
    """
    ledger.runs.request_cancel(run_id)
    answers = cancel_operations(ledger, services, going_on(ledger, run_id))
    _close(ledger, run_id, _by_a_person(run_id), answers)


def close_cancelled(ledger: Ledger, services: Services, run_id: str, error: errors.Cancelled) -> None:
    """The end of a run that learned by itself, from what it waited for, that it was cancelled.

    Prefect takes no other end from a run that it is cancelling than this one, and there may be no worker to tell it.
    """
    if _close(ledger, run_id, error) and (silence := _tell_prefect(services, run_id, error.sentence)):
        logger.warning("Prefect was not told that run %s was cancelled: %s", run_id, silence)


def bury(ledger: Ledger, services: Services, run: RunRecord, answers: Sequence[Answered] | None = None) -> RunRecord:
    """`end_run` for a run that no process stands behind: it is not closed until Prefect knows. The run as it is now.

    `answers` are those of its operations, where they have just been cancelled.
    """
    ledger.runs.request_cancel(run.id)
    if answers is None:
        answers = cancel_operations(ledger, services, going_on(ledger, run.id))
    message = "Cancelled by a person; its process was gone"
    if not going_on(ledger, run.id) and (silence := _tell_prefect(services, run.id, message)):
        ledger.runs.not_cancelled_yet(run.id, silence)
    else:
        _close(ledger, run.id, _by_a_person(run.id), answers)
    return ledger.runs.get(run.id) or run


def _close(ledger: Ledger, run_id: str, error: errors.Cancelled, answers: Sequence[Answered] = ()) -> bool:
    """Whether all that the run had going on has ended; until then it is being cancelled, and says what has not."""
    ledger.runs.request_cancel(run_id)
    said = {each.key: each.sentence for each in answers}
    still = [said.get(each.key, f"{each.step} goes on") for each in going_on(ledger, run_id)]
    if not still:
        return ledger.runs.cancelled(run_id, error)
    doubt = errors.Cancelled(
        f"{error.what}, but not everything has ended: {'; '.join(still)}",
        where=error.where,
        next_step="nothing: it is cancelled until that is confirmed; what will never be, `beamline cancel --give-up`",
    )
    ledger.runs.not_cancelled_yet(run_id, doubt)
    logger.warning("%s", doubt)
    return False


def _tell_prefect(services: Services, run_id: str, message: str) -> OrchestrationError | None:
    """What has to be tried again; what will never succeed is not."""
    try:
        insist(partial(services.prefect_run.say_cancelled, run_id, message), seconds=PATIENCE_SECONDS)
    except errors.ServiceUnavailable as silence:
        return silence
    except OrchestrationError as refusal:
        logger.warning("Prefect was not told that run %s was cancelled: %s", run_id, refusal)
    return None


def _by_a_person(run_id: str) -> errors.Cancelled:
    return errors.Cancelled("cancelled by a person", where=f"run {run_id}")


def all_at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results, in order; they wait for services most of the time, and one that is slow holds up no other."""
    if not calls:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(calls)), thread_name_prefix="cancel") as pool:
        found = [pool.submit(copy_context().run, call) for call in calls]
        return [each.result() for each in found]
