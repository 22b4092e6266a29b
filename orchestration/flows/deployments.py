"""One deployment on the server: made, compared, changed where it differs, never deleted."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any, TypeAlias

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentScheduleUpdate, DeploymentUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema

from orchestration.errors import ConfigError
from orchestration.flows.catalogue import DeploymentSpec
from orchestration.flows.provision import Change, Effect

AnyFlow: TypeAlias = "Flow[..., Any]"

ENGINE = shlex.join([sys.executable, "-m", "prefect.engine"])
"""How a worker runs a flow. Left out, Prefect puts a second process around each run, which finds this one out, at
twice the memory and the seconds, and which may install packages when it sees a pyproject.toml."""

_PLACE = ("work_pool_name", "work_queue_name")


def load_flow(spec: DeploymentSpec) -> AnyFlow:
    """The flow behind a deployment's entry point.

    Raises:
        ConfigError: if it cannot be imported, is no flow, or has another name than its deployment says.
    """
    module, _, attribute = spec.entrypoint.rpartition(".")
    where = f"deployment {spec.full_name}"
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{spec.entrypoint} cannot be imported: {error}",
            where=where,
            next_step="mend its entrypoint in prefect.yaml",
        ) from error
    if not isinstance(found, Flow):
        raise ConfigError(f"{spec.entrypoint} is not a flow", where=where, next_step="decorate it with @flow")
    if found.name != spec.flow_name:
        raise ConfigError(
            f"the flow {spec.entrypoint} is called {found.name!r}, not {spec.flow_name!r}",
            where=where,
            next_step="make flow_name in prefect.yaml and the name of the flow the same",
        )
    return found


def ensure_deployment(client: SyncPrefectClient, spec: DeploymentSpec, flow: AnyFlow, *, directory: Path) -> Change:
    """Made, or changed in what differs. What is scheduled for it stays scheduled, and what is paused stays paused."""
    wanted = _wanted(spec, flow, directory)
    try:
        found = client.read_deployment_by_name(spec.full_name)
    except ObjectNotFound:
        return _create(client, spec, flow, wanted)
    present = _present(found)
    different = {key: value for key, value in wanted.items() if value != present[key]}
    if _timetable(found) != _wanted_timetable(spec):
        different["schedules"] = _schedules(found, spec)
    if not different:
        return Change(kind="deployment", name=spec.full_name, effect=Effect.UNCHANGED)
    detail = ", ".join(sorted(different))
    if different.keys() & set(_PLACE):
        detail += _left_behind(client, found)
        different |= {key: wanted[key] for key in _PLACE}  # Prefect finds the queue by both names
    client.update_deployment(found.id, DeploymentUpdate(**different))
    return Change(kind="deployment", name=spec.full_name, effect=Effect.CHANGED, detail=detail)


def _create(client: SyncPrefectClient, spec: DeploymentSpec, flow: AnyFlow, wanted: dict[str, Any]) -> Change:
    schedules = [DeploymentScheduleCreate(schedule=item.schedule(), slug=item.slug) for item in spec.schedules]
    client.create_deployment(client.create_flow_from_name(flow.name), spec.name, schedules=schedules, **wanted)
    return Change(kind="deployment", name=spec.full_name, effect=Effect.CREATED)


def _wanted(spec: DeploymentSpec, flow: AnyFlow, directory: Path) -> dict[str, Any]:
    """The fields as Prefect's client names them.

    Runs start in `directory`, with the interpreter that deploys, wherever their worker was started: it needs the same
    machine, file system or image, and relative paths in settings mean the same everywhere.
    """
    return {
        "entrypoint": spec.entrypoint,
        "description": spec.description or flow.description or "",
        "tags": list(spec.tags),
        "parameters": dict(spec.parameters),
        # What the flow does not take is refused when a run is asked for, not when it begins, hours later perhaps.
        "parameter_openapi_schema": _plain({**parameter_schema(flow).model_dump(), "additionalProperties": False}),
        "enforce_parameter_schema": True,
        "job_variables": {"working_dir": str(directory), "command": ENGINE},
        "concurrency_limit": spec.concurrency_limit,
        "work_pool_name": spec.work_pool.name,
        "work_queue_name": spec.work_pool.work_queue_name,
    }


def _present(found: DeploymentResponse) -> dict[str, Any]:
    limit = found.global_concurrency_limit
    return {
        "entrypoint": found.entrypoint,
        "description": found.description or "",
        "tags": found.tags,
        "parameters": found.parameters,
        "parameter_openapi_schema": _plain(found.parameter_openapi_schema),
        "enforce_parameter_schema": found.enforce_parameter_schema,
        "job_variables": found.job_variables,
        "concurrency_limit": limit.limit if limit else None,
        "work_pool_name": found.work_pool_name,
        "work_queue_name": found.work_queue_name,
    }


def _plain(schema: object) -> object:
    """As it looks after a journey through JSON, where the server keeps it."""
    return json.loads(json.dumps(schema, sort_keys=True))


def _timetable(found: DeploymentResponse) -> dict[str, object]:
    return {item.slug or str(item.id): _rhythm(item.schedule) for item in found.schedules}


def _wanted_timetable(spec: DeploymentSpec) -> dict[str, object]:
    return {item.slug: _rhythm(item.schedule()) for item in spec.schedules}


def _rhythm(schedule: Any) -> object:
    """A schedule without its anchor, which the server chooses when it is first made."""
    return type(schedule).__name__, schedule.model_dump(mode="json", exclude={"anchor_date"})


def _schedules(found: DeploymentResponse, spec: DeploymentSpec) -> list[DeploymentScheduleUpdate]:
    """The new timetable; a schedule that an operator switched off stays off."""
    active = {item.slug: item.active for item in found.schedules}
    return [
        DeploymentScheduleUpdate(schedule=item.schedule(), slug=item.slug, active=active.get(item.slug, True))
        for item in spec.schedules
    ]


def _left_behind(client: SyncPrefectClient, found: DeploymentResponse) -> str:
    """What is said about runs that Prefect leaves in the queue in which they were scheduled."""
    waiting = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[found.id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        ),
        limit=200,
    )
    count = sum(1 for run in waiting if not run.auto_scheduled)
    if not count:
        return ""
    return (
        f"; {count} scheduled runs stay in {found.work_pool_name}/{found.work_queue_name}: keep its worker until then"
    )
