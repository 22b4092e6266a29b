"""Runs that Prefect has for a file, whether or not a process has taken them up: the ledger learns of them only then."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

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

PARAMETERS = ("file_path", "file_paths")
"""In which flows that carry a scan are told of its file, or of many."""


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


def others_of(run: FlowRun, beamline: Beamline, path: RelativePath) -> tuple[str, ...]:
    """What else the run is told to carry."""
    return tuple(sorted({each.text for each in map(partial(_relative, beamline), _told(run)) if each} - {path.text}))


def _is_about(run: FlowRun, beamline: Beamline, path: RelativePath) -> bool:
    """A run may be told of thousands: only what has the right name is read as a path."""
    return any(_relative(beamline, each) == path for each in _told(run) if path.name in each)


def _told(run: FlowRun) -> Iterator[str]:
    for given in map(run.parameters.get, PARAMETERS):
        yield from map(str, given if isinstance(given, list) else [given or ""])


def _relative(beamline: Beamline, file_path: str) -> RelativePath | None:
    try:
        return beamline.relative(file_path)
    except InvalidPath:
        return None


def _belongs_to(client: SyncPrefectClient, run: FlowRun, beamline: str) -> bool:
    """Not to a deployment of another beamline, which may call a file of its own the same."""
    if "beamline" in run.parameters:  # a flow for all of them, deployed with one
        return bool(run.parameters["beamline"] == beamline)
    if run.deployment_id is None:
        return True
    flow, deployment = client.read_flow(run.flow_id).name, client.read_deployment(run.deployment_id).name
    owners = catalogue.beamlines_of(f"{flow}/{deployment}")
    return not owners or beamline in owners
