"""What the client scripts of XPCS do for those who take data: look ahead, start a run, wait for it."""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import click
from prefect import Flow
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterName,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.flows.aps8idi.pipeline import BACK
from orchestration.flows.main import use_environment
from orchestration.flows.runs import PrefectSchedule, RunRequest
from orchestration.flows.server import prefect_server
from orchestration.flows.starting import demand_server, follow, start
from orchestration.ledger.service import Document, Failed, Running

BEAMLINE = "aps8idi"
"""Whose deployments are started."""

INTERRUPTED_EXIT = 130


class Until(enum.StrEnum):
    """What is waited for."""

    NO = "no"
    RESULTS = "results"
    """Until the results are where they return to; pictures and publication may still be to come."""
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Started:
    request: RunRequest
    run_id: str
    page: str = ""
    """In Prefect's pages; empty if Prefect has not said it."""

    def document(self) -> Document:
        return {"run": self.run_id, "deployment": self.request.deployment, "url": self.page}


class Enough(Exception):
    """Raised through `follow`, which has no other way out before the run has ended."""


class Client(click.Command):
    """Runs where the environment file points to; an error that is meant for people is one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        use_environment()
        try:
            return super().invoke(ctx)
        except OrchestrationError as error:
            raise click.ClickException(error.sentence) from error


class Clients(Client, click.Group):
    """Several of them in one script."""


def begin(flow_name: str, parameters: Document, *, name: str) -> Started:
    """Start a run of the beamline's deployment of a flow.

    Raises:
        UnknownName: if Prefect has no such deployment.
        InvalidInput: if its flow does not take these parameters.
    """
    request, run_id = start(BEAMLINE, flow_name, parameters, name=name)
    with contextlib.suppress(ServiceUnavailable):
        stands = PrefectSchedule().poll(request, run_id)  # it does: this is for the address of its page
        if not isinstance(stands, Running):
            return Started(request=request, run_id=run_id, page=str(stands.evidence.get("url", "")))
    return Started(request=request, run_id=run_id)


def look_ahead(flow: Flow[Any, Document], parameters: Document, *, verbose: bool) -> Document:
    """What a run would do: its flow in this process, as a dry run. Its log is seen if `verbose`."""
    demand_server()
    logging.disable(logging.NOTSET if verbose else logging.CRITICAL)
    try:
        return flow(**{**parameters, "dry_run": True})
    finally:
        logging.disable(logging.NOTSET)


def report(started: Started, until: Until, *, as_json: bool, also: Document | None = None) -> None:
    """Say that a run was started, wait as long as is wished, and say what came of it; `also` is told as well.

    Raises:
        OrchestrationError: what the run failed with.
    """
    known: Document = {**started.document(), **(also or {})}
    if not as_json:
        click.echo(f"started run {started.run_id} of {started.request.deployment}")
        for name, value in known.items():
            if name not in {"run", "deployment"} and value:
                click.echo(f"  {name.replace('_', ' ')}  {value}")
    with _leaving("The run goes on"):
        waited = wait(started, until, _teller())
    if as_json:
        click.echo(json.dumps({**known, "waited_for": until.value}))
    elif waited:
        click.echo(_ended(started, waited))


def report_all(runs: Sequence[Started], until: Until, *, as_json: bool) -> None:
    """As `report`, of many: one that fails keeps none of the others from being waited for; then this ends with 1."""
    if not as_json:
        for each in runs:
            click.echo(f"started run {each.run_id}  {each.page}")
    failed: dict[str, str] = {}
    for each in runs:
        try:
            with _leaving("The runs go on"):
                waited = wait(each, until, _teller())
        except OrchestrationError as error:
            failed[each.run_id] = error.sentence
            click.echo(f"run {each.run_id}: {error.sentence}", err=True)
        else:
            if waited and not as_json:
                click.echo(f"run {each.run_id}: {_ended(each, waited)}")
    if as_json:
        told = [{**each.document(), "failed": failed.get(each.run_id)} for each in runs]
        click.echo(json.dumps({"runs": told, "waited_for": until.value}))
    if failed:
        sys.exit(1)


def _ended(started: Started, waited: str) -> str:
    return f"{waited}: {started.page}" if started.page else waited


@contextlib.contextmanager
def _leaving(what_goes_on: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\n{what_goes_on} without this terminal.", err=True)
        sys.exit(INTERRUPTED_EXIT)


def wait(started: Started, until: Until, tell: Callable[[str], None]) -> str:
    """Return, with what there is now, once that is so; `tell` is called with what keeps the run from going on.

    Raises:
        OrchestrationError: what the run failed with, unless what was waited for was there before.
    """
    if until is Until.NO:
        return ""

    def look(note: str) -> None:
        if until is Until.RESULTS and results_are_back(started.run_id):
            raise Enough
        tell(note)

    try:
        ended = follow(started.request, started.run_id, look)
    except Enough:
        return BACK
    if isinstance(ended, Failed):
        raise ended.error
    return "the run has completed"


def results_are_back(run_id: str) -> bool:
    """Whether that stage of the run has ended; also if it failed later. No, as long as Prefect does not answer."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run_id)]))
    stage = TaskRunFilter(
        name=TaskRunFilterName(like_=BACK),  # Prefect adds to the name of a task
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.COMPLETED])),
    )
    try:
        with prefect_server() as client:
            return bool(client.read_task_runs(flow_run_filter=of_run, task_run_filter=stage, limit=1))
    except ServiceUnavailable:
        return False


def _teller() -> Callable[[str], None]:
    """Says each obstacle once, on standard error."""
    said = ""

    def tell(note: str) -> None:
        nonlocal said
        if note and note != said:
            click.echo(f"  {note}", err=True)
        said = note

    return tell
