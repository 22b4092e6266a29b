"""Prefect runs as operations: started once whatever happens to the answer, and waited for without a task or a slot.

`PrefectRun` starts a run of a deployment and follows it to its end; `PrefectSchedule` is content once the run stands
in Prefect's calendar. The token travels as the run's idempotency key.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled as CancelledState
from prefect.states import Cancelling, Scheduled

from orchestration.errors import Cancelled, InvalidInput, RunFailed, UnknownName
from orchestration.flows import catalogue
from orchestration.flows.server import api_url, explanation, prefect_server
from orchestration.ledger.service import CancelAnswer, Document, Failed, Progress, Running, Status, Succeeded
from orchestration.ledger.slices import batched
from orchestration.policy import Effect, Permitted, Place, Zone, opened

CLOUD = "prefect.cloud"

RUNS_AT_ONCE = 200
"""The most that Prefect's server tells in one answer."""

_ENDED_BADLY = {StateType.FAILED, StateType.CRASHED}
_ENDED = _ENDED_BADLY | {StateType.COMPLETED, StateType.CANCELLED}


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run of a deployment.

    `scheduled_time` is part of what the request is: derive it from the scan, never from the clock of the asking run,
    or a repeated run schedules a second time.
    """

    effect: ClassVar[Effect] = Effect.RUN

    deployment: str
    """``<flow>/<deployment>``."""
    parameters: Document = field(default_factory=dict)
    scheduled_time: datetime | None = None
    """With a time zone; now if left out."""
    flow_run_name: str = ""
    """For people, like the tags: no part of the request's identity. Prefect makes one up if left out."""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        flow, _, name = self.deployment.partition("/")
        if not flow or not name or "/" in name:
            raise InvalidInput(f"{self.deployment!r} is not the name of a deployment, <flow>/<deployment>")
        if self.scheduled_time is not None and self.scheduled_time.tzinfo is None:
            raise InvalidInput(f"the time {self.scheduled_time} for a run of {self.deployment} has no time zone")

    @property
    def place(self) -> Place:
        """Names of files travel in parameters: Prefect's own cloud is no place of the beamline."""
        if (urlsplit(api_url()).hostname or "").endswith(CLOUD):
            return Place("Prefect Cloud", Zone.EXTERNAL)
        return Place("the Prefect server", Zone.BEAMLINE)

    def document(self) -> Document:
        when = None if self.scheduled_time is None else self.scheduled_time.astimezone(UTC).isoformat()
        return {"deployment": self.deployment, "parameters": self.parameters, "scheduled_time": when}

    @classmethod
    def parse(cls, document: Document) -> RunRequest:
        """The request back from the ledger; it has lost only what is for people.

        Raises:
            InvalidInput: if this is not the document of a run.
        """
        deployment, parameters, when = (document.get(key) for key in ("deployment", "parameters", "scheduled_time"))
        if not isinstance(deployment, str) or not isinstance(parameters, dict):
            raise InvalidInput("this is not the document of a run of a deployment")
        scheduled = None if when is None else datetime.fromisoformat(str(when))
        return cls(deployment=deployment, parameters=parameters, scheduled_time=scheduled)


@dataclass(frozen=True, kw_only=True)
class PrefectRun:
    """Service: start a run of a deployment, and succeed when it has completed."""

    name: str = "prefect.run"
    cancel_patience: float = 15.0
    """Seconds in which a worker may confirm that it stopped a run."""

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: RunRequest, token: str) -> str | None:
        by_token = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[token]))
        with prefect_server() as client:
            runs = client.read_flow_runs(flow_run_filter=by_token, limit=1)
        return str(runs[0].id) if runs else None

    def submit(self, permitted: Permitted[RunRequest], token: str) -> str:
        """Create the run; the server answers a repeated token with the run that it already has.

        Raises:
            UnknownName: if there is no such deployment.
            InvalidInput: if its flow does not take these parameters.
        """
        request = opened(permitted, RunRequest)
        with prefect_server() as client:
            try:
                deployment = client.read_deployment_by_name(request.deployment)
                run = client.create_flow_run_from_deployment(
                    deployment.id,
                    parameters=dict(request.parameters),
                    state=Scheduled(scheduled_time=request.scheduled_time),
                    name=request.flow_run_name or None,
                    tags=request.tags,
                    idempotency_key=token,
                )
            except ObjectNotFound as error:
                raise _missing(request.deployment) from error
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.CONFLICT:
                    raise
                raise _misfit(request, explanation(error.response)) from error
        return str(run.id)

    def poll(self, request: RunRequest, handle: str) -> Status:
        with prefect_server() as client:
            try:
                run = client.read_flow_run(UUID(handle))
            except ObjectNotFound:
                return Failed(error=_forgotten(handle, request, client))
        return self._status(run, request)

    def poll_many(self, items: Sequence[tuple[RunRequest, str]]) -> Mapping[str, Status]:
        """As many to a request as the server takes."""
        requests = {handle: request for request, handle in items}
        found: dict[str, Status] = {}
        with prefect_server() as client:
            for some in batched(sorted(requests), RUNS_AT_ONCE):
                runs = {str(run.id): run for run in read_runs(client, some)}
                found |= {
                    handle: self._status(runs[handle], requests[handle])
                    if handle in runs
                    else Failed(error=_forgotten(handle, requests[handle], client))
                    for handle in some
                }
        return found

    def _status(self, run: FlowRun, request: RunRequest) -> Status:
        return Running() if run.state is None else _outcome(run, run.state, request)

    def cancel(self, handle: str) -> CancelAnswer:
        """Ask Prefect to stop the run.

        One that has begun is stopped by its worker, mostly within a few seconds; UNKNOWN if no worker did it in time.
        """
        with prefect_server() as client:
            try:
                run = client.read_flow_run(UUID(handle))
                if run.state is not None and run.state.type in _ENDED:
                    return _ended_already(run.state)
                client.set_flow_run_state(run.id, Cancelling(message="cancelled by the run that had started it"))
                return _cancel_answer(_settled(run.id, client, patience=self.cancel_patience))
            except ObjectNotFound:
                return CancelAnswer.UNKNOWN  # deleted from Prefect; a process of it may be alive

    def say_cancelled(self, handle: str, message: str) -> None:
        """Close a run in Prefect that no process stands behind; nothing, if it has ended there or was deleted."""
        with prefect_server() as client:
            try:
                run = client.read_flow_run(UUID(handle))
            except ObjectNotFound:
                return
            if run.state is None or run.state.type not in _ENDED:
                client.set_flow_run_state(run.id, CancelledState(message=message), force=True)


@dataclass(frozen=True, kw_only=True)
class PrefectSchedule(PrefectRun):
    """Service: put a run into Prefect's calendar, and succeed when it verifiably stands there, or has begun."""

    name: str = "prefect.schedule"

    def _status(self, run: FlowRun, request: RunRequest) -> Status:
        return Running() if run.state is None else _on_calendar(run, run.state, request)


def read_runs(
    client: SyncPrefectClient, run_ids: Sequence[str], *, states: Collection[StateType] | None = None
) -> list[FlowRun]:
    """Those of these runs that Prefect has, in these states (in any, if left out); at most RUNS_AT_ONCE."""
    among = FlowRunFilter(
        id=FlowRunFilterId(any_=[UUID(run_id) for run_id in run_ids]),
        state=None if states is None else FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(states))),
    )
    return client.read_flow_runs(flow_run_filter=among, limit=RUNS_AT_ONCE)


def _outcome(run: FlowRun, state: State, request: RunRequest) -> Status:
    if state.type == StateType.COMPLETED:
        return Succeeded(evidence=_evidence(run, state))
    if state.type == StateType.CANCELLED:
        return Failed(error=_cancelled(run, state, request), evidence=_evidence(run, state))
    if state.type in _ENDED_BADLY:
        return Failed(error=_failure(run, state, request), evidence=_evidence(run, state))
    note = f"{state.name}: {state.message}" if state.message else state.name or ""
    return Running(progress=Progress(note=note))


def _on_calendar(run: FlowRun, state: State, request: RunRequest) -> Status:
    if state.type == StateType.CANCELLED:
        return Failed(error=_cancelled(run, state, request), evidence=_evidence(run, state))
    return Succeeded(evidence=_evidence(run, state))


def _evidence(run: FlowRun, state: State) -> Document:
    document: Document = {"run": str(run.id), "name": run.name, "state": state.name, "url": _url(run)}
    when = state.state_details.scheduled_time or run.expected_start_time
    return document if when is None else {**document, "scheduled_time": when.isoformat()}


def _url(run: FlowRun) -> str:
    """Its page. Prefect's own way to say it remembers the first server that a process has talked to."""
    pages = os.environ.get("PREFECT_UI_URL") or api_url().removesuffix("/api")
    return f"{pages.rstrip('/')}/runs/flow-run/{run.id}"


def _failure(run: FlowRun, state: State, request: RunRequest) -> RunFailed:
    """The child's own sentence, with its own next step where it has one."""
    message = (state.message or "it left no message").removeprefix("Flow run encountered an exception: ")
    what, _, next_step = message.partition(". Next: ")
    return RunFailed(
        f"run {run.name} of {request.deployment} ended as {state.name}: {what}",
        where=_url(run),
        next_step=next_step or "read the log of that run, then start this flow again",
    )


def _cancelled(run: FlowRun, state: State, request: RunRequest) -> Cancelled:
    why = f": {state.message}" if state.message else ""
    return Cancelled(f"run {run.name} of {request.deployment} was cancelled{why}", where=_url(run))


def _forgotten(handle: str, request: RunRequest, client: SyncPrefectClient) -> RunFailed:
    return RunFailed(
        f"Prefect has no run {handle} of {request.deployment} any more: it, or its deployment, was deleted there",
        where=str(client.api_url),
        next_step="start the flow again",
    )


def _missing(deployment: str) -> UnknownName:
    beamlines = catalogue.beamlines_of(deployment)
    if beamlines:
        remedy = f"run `./create_deployments.sh {beamlines[0]}`, then start the flow again"
    else:
        remedy = "correct the name, or add it to the prefect.yaml of its beamline and run `./create_deployments.sh`"
    return UnknownName(f"Prefect has no deployment {deployment}", where=api_url(), next_step=remedy)


def _settled(run_id: UUID, client: SyncPrefectClient, *, patience: float) -> State | None:
    """The run's state once it is more than a wish to cancel, or when patience ends."""
    until = time.monotonic() + patience
    pause = threading.Event()
    while True:
        state = client.read_flow_run(run_id).state
        if state is None or state.type != StateType.CANCELLING or time.monotonic() > until:
            return state
        pause.wait(0.2)


def _misfit(request: RunRequest, why: str) -> InvalidInput:
    return InvalidInput(
        f"the flow of {request.deployment} does not take these parameters: {why}",
        where=", ".join(sorted(request.parameters)),
        next_step="correct them; if the flow was changed, run `./create_deployments.sh` first",
    )


def _ended_already(state: State) -> CancelAnswer:
    return CancelAnswer.CANCELLED if state.type == StateType.CANCELLED else CancelAnswer.ALREADY_FINISHED


def _cancel_answer(state: State | None) -> CancelAnswer:
    if state is None or state.type == StateType.CANCELLING:
        return CancelAnswer.UNKNOWN
    return _ended_already(state) if state.type in _ENDED else CancelAnswer.REFUSED
