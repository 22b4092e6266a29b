"""A run that waits for something elsewhere gives up its process and its slot, and goes on when that has ended.

Prefect calls that suspended, and starts a run anew that it resumes. All that a flow does goes through `perform`, so the
new process comes to where the old one was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound, Pause
from prefect.states import Suspended

from orchestration.errors import OrchestrationError
from orchestration.flows.runs import RUNS_AT_ONCE, read_runs
from orchestration.flows.server import insist, prefect_server
from orchestration.ledger import Ledger
from orchestration.ledger.slices import batched
from orchestration.ledger.waiting import Awaited

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""How long Prefect may be busy before a run that would like to leave stays."""

AGAIN_SECONDS = 60.0
"""After which it is tried again."""

LOOK_SECONDS = 5.0
"""A watcher that was alive is taken to be so for as long."""

SETTLING_SECONDS = 5.0
"""For so long, at least, a process waits for anything: it has cost that much to start."""


ASLEEP = frozenset({StateType.PAUSED, StateType.SCHEDULED})
"""Of a run without a process: suspended, or resumed and not yet taken up by a worker."""

_BEGUN = (StateType.PENDING, StateType.RUNNING)

CANCELLED = frozenset({StateType.CANCELLING, StateType.CANCELLED})

_IDS_AT_ONCE = 1000


@dataclass
class Suspension:
    """Whether one run may leave, and its leaving."""

    ledger: Ledger
    run_id: str
    flow_run: FlowRun | None
    """None where there is no run of Prefect."""
    inline_seconds: float
    """How long an operation is waited for in any case, from its submission."""
    _not_before: float = float("-inf")
    _looked_at: float = float("-inf")
    _watched: bool = field(default=False)

    def patient(self, since_submission: float, waited: float) -> bool:
        """Whether it would be better not to wait here any longer, and need not be."""
        long = since_submission >= self.inline_seconds and waited >= min(self.inline_seconds, SETTLING_SECONDS)
        return long and time.monotonic() >= self._not_before and self._possible()

    def suspend(self, awaited: Mapping[str, Awaited]) -> None:
        """End this process by an exception (`prefect.exceptions.Pause`) and let a watcher wait for these operations.

        Returns if that cannot be: the caller then waits here. Prefect is told before the ledger. A process killed in
        between leaves a run that Prefect has as suspended and the ledger as dead, which `reconcile` resumes.
        """
        state = self._tell() if self._possible() else None
        if state is None:
            self._not_before = time.monotonic() + AGAIN_SECONDS
            return
        self.ledger.runs.wait(self.run_id, awaited)
        logger.info("run %s waits without a process for %s", self.run_id, ", ".join(awaited))
        raise Pause(state=state)

    def _possible(self) -> bool:
        """A run that a worker can start again, and somebody who would say when."""
        run = self.flow_run
        if run is None or run.deployment_id is None or run.parent_task_run_id is not None:
            return False
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._watched = bool(self.ledger.watchers.alive())
            self._looked_at = time.monotonic()
        return self._watched

    def _tell(self) -> State | None:
        """The state in which Prefect holds the run suspended; None if it does not, or is not there."""
        wish: State[None] = Suspended(
            pause_key=str(uuid4()), message="It waits without a process; a watcher resumes it"
        )

        def ask() -> State | None:
            with prefect_server() as client:
                client.set_flow_run_state(UUID(self.run_id), wish)
                return client.read_flow_run(UUID(self.run_id)).state  # an answer to the first may have been lost

        try:
            state = insist(ask, seconds=PATIENCE_SECONDS)
        except (OrchestrationError, ObjectNotFound) as error:
            logger.warning("run %s stays in its process: Prefect was not told that it waits: %s", self.run_id, error)
            return None
        return state if state is not None and state.type is StateType.PAUSED else None


@dataclass(frozen=True)
class SuspendedRuns:
    """Runs as Prefect has them, for whoever waits in their place."""

    def resume(self, run_id: str) -> bool:
        """Let a worker start a run again; False if Prefect does not have it, or not suspended (any more).

        Raises:
            ServiceUnavailable: if Prefect does not answer.
        """
        try:
            with prefect_server() as client:
                return client.resume_flow_run(UUID(run_id)).status is SetStateStatus.ACCEPT
        except ObjectNotFound:
            return False

    def states(self, run_ids: Sequence[str]) -> Mapping[str, State | None]:
        """How each of them stands; those that Prefect does not have are left out.

        Raises:
            ServiceUnavailable: if Prefect does not answer.
        """
        with prefect_server() as client:
            return {
                str(run.id): run.state for some in batched(run_ids, RUNS_AT_ONCE) for run in read_runs(client, some)
            }

    def moved(self, run_ids: Sequence[str]) -> Mapping[str, State | None]:
        """Those that are neither suspended nor about to be started: few, and cheap to ask for.

        Raises:
            ServiceUnavailable: if Prefect does not answer.
        """
        return self._among(run_ids, set(StateType) - ASLEEP)

    def cancelled(self, run_ids: Sequence[str]) -> Collection[str]:
        """Those that somebody has cancelled.

        Raises:
            ServiceUnavailable: if Prefect does not answer.
        """
        return self._among(run_ids, CANCELLED).keys()

    def begun(self, flow: str) -> Mapping[str, State]:
        """The runs of a flow that Prefect takes to have a process.

        Raises:
            ServiceUnavailable: if Prefect does not answer.
        """
        named = FlowFilter(name=FlowFilterName(any_=[flow]))
        begun = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*_BEGUN])))
        with prefect_server() as client:
            runs = client.read_flow_runs(flow_filter=named, flow_run_filter=begun)
        return {str(run.id): run.state for run in runs if run.state is not None}

    def tell(self, run_id: str, state: State) -> None:
        """How a run stands that cannot tell this itself.

        Raises:
            ServiceUnavailable: if Prefect does not answer.
        """
        with prefect_server() as client:
            client.set_flow_run_state(UUID(run_id), state, force=True)

    def _among(self, run_ids: Sequence[str], states: Collection[StateType]) -> Mapping[str, State | None]:
        with prefect_server() as client:
            return {
                str(run.id): run.state
                for some in batched(run_ids, _IDS_AT_ONCE)
                for run in read_runs(client, some, states=states)
            }
