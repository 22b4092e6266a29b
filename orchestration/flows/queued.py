"""Runs that Prefect has for a file, whether or not a process has taken them up: the ledger learns of them only then."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from orchestration.config import Beamline
from orchestration.errors import InvalidPath
from orchestration.flows import catalogue
from orchestration.flows.runs import RUNS_AT_ONCE
from orchestration.flows.server import prefect_server
from orchestration.paths import RelativePath

SOON = timedelta(hours=1)
"""What is to begin later stands in the calendar: a deletion, mostly. It is no part of what is going on."""

PARAMETER = "file_path"
"""In which every flow that carries a scan is told of its file."""


def runs_of_file(beamline: Beamline, path: RelativePath) -> list[FlowRun]:
    """Those that have not ended, of the flows of this beamline.

    Raises:
        ServiceUnavailable: if Prefect does not answer.
    """
    with prefect_server() as client:
        return [
            run for run in _going_on(client) if _is_about(run, beamline, path) and _belongs_to(client, run, beamline.id)
        ]


def _going_on(client: SyncPrefectClient) -> Iterator[FlowRun]:
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(set(StateType) - TERMINAL_STATES))),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now(UTC) + SOON}),
    )
    offset = 0
    while some := client.read_flow_runs(
        flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=RUNS_AT_ONCE, offset=offset
    ):
        yield from some
        offset += len(some)


def _is_about(run: FlowRun, beamline: Beamline, path: RelativePath) -> bool:
    try:
        return beamline.relative(str(run.parameters.get(PARAMETER, ""))) == path
    except InvalidPath:
        return False


def _belongs_to(client: SyncPrefectClient, run: FlowRun, beamline: str) -> bool:
    """Not to a deployment of another beamline, which may call a file of its own the same."""
    if run.deployment_id is None:
        return True
    flow, deployment = client.read_flow(run.flow_id).name, client.read_deployment(run.deployment_id).name
    owners = catalogue.beamlines_of(f"{flow}/{deployment}")
    return not owners or beamline in owners
