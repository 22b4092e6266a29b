"""Runs that Prefect has for a file, whether or not a process has taken them up: the ledger learns of them only then."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain

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
from orchestration.errors import InvalidPath, UnknownName
from orchestration.flows import catalogue
from orchestration.flows.runs import RUNS_AT_ONCE
from orchestration.flows.server import prefect_server
from orchestration.ledger import Ledger
from orchestration.ledger.batches import ItemState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json
from orchestration.paths import RelativePath

SOON = timedelta(hours=1)
"""What is to begin later stands in the calendar: a deletion, mostly. It is no part of what is going on."""

PARAMETERS = ("file_path", "file_paths")
"""In which flows that carry a scan are told of its file, or of many."""

ALL = "*"
"""In place of a name: what is in a folder, which is not known before the run has looked."""


def runs_of_scan(ledger: Ledger, beamline: Beamline, scan: Scan) -> list[FlowRun]:
    """Those that have not ended, of the flows of this beamline; those for a folder of datasets, or for a batch, only
    while they have not begun: after that the ledger has what they work at.

    Raises:
        ServiceUnavailable: if Prefect does not answer.
    """
    with prefect_server() as client:
        return [
            run
            for run in _going_on(client)
            if _is_about(ledger, run, beamline, scan) and _belongs_to(client, run, beamline.id)
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


def others_of(ledger: Ledger, run: FlowRun, beamline: Beamline, path: RelativePath) -> tuple[str, ...]:
    """What else the run is told to carry, or to correlate."""
    told = map(partial(_relative, beamline), _told(ledger, run))
    return tuple(sorted({each.text for each in told if each} - {path.text}))


def _is_about(ledger: Ledger, run: FlowRun, beamline: Beamline, scan: Scan) -> bool:
    """A run may be told of thousands: only what has the right name is read as a path."""
    path = scan.path
    told = (each for each in chain(_told(ledger, run), _dataset(run)) if path.name in each or each.endswith(ALL))
    if any(_relative(beamline, each) in {path, path.beside(ALL)} for each in told):
        return True
    subject = run.parameters.get("subject")
    return bool(subject) and subject in _published(ledger, scan)


def _published(ledger: Ledger, scan: Scan) -> set[Json]:
    """Subjects of the records of it, by which a run is told what to correlate once more."""
    return {each.request.get("subject") for each in ledger.operations.of_scan(scan.id)}


def _told(ledger: Ledger, run: FlowRun) -> Iterator[str]:
    given = run.parameters
    for named in map(given.get, PARAMETERS):
        yield from map(str, named if isinstance(named, list) else [named or ""])
    if not (given.get("batch") or given.get("folder")) or ledger.runs.get(str(run.id)) is not None:
        return
    if given.get("batch"):
        yield from _not_done(ledger, str(given["batch"]))
    else:
        yield from (f"{given['folder']}/{name}" for name in given.get("datasets") or [ALL])


def _dataset(run: FlowRun) -> Iterator[str]:
    """What a run of XPCS correlates: it is told of the folder of a dataset, or of a raw file in that."""
    raw = str(run.parameters.get("raw") or "")
    yield raw
    if posixpath.splitext(raw)[1]:
        yield posixpath.dirname(raw)


def _not_done(ledger: Ledger, batch: str) -> Iterator[str]:
    """Folders of the datasets of a batch that are tried again."""
    try:
        items = ledger.batches.items(ledger.batches.get(batch).id)
    except UnknownName:
        return  # the run itself will say so
    yield from (str(item.parameters.get("folder", "")) for item in items if item.state is not ItemState.DONE)


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
