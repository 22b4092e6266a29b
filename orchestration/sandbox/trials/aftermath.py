"""What must be true of a whole world once all runs have ended and `reconcile` has been by: nothing goes on any more."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import httpx
from prefect.client.schemas.objects import State

from orchestration.flows.standing import young
from orchestration.iri.records import JobState
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.nersc.script import token_of
from orchestration.sandbox.trials.world import World

RECONCILE = "orchestration.flows.reconciling:reconcile"

_IN_PREFECT = {
    RunState.COMPLETED: "COMPLETED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "CANCELLED",
    RunState.DEAD: "CRASHED",
}
_ENDED = frozenset({*_IN_PREFECT.values()})
_PAGE = 200
_JOB = "run_job"
"""The function of Globus Compute that is a job; others look after jobs."""


def untruths(world: World, *, reconciled_at: datetime) -> Iterator[str]:
    """Everything that still goes on somewhere, and everything that one tells otherwise than another.

    What was too young for `reconcile` when that began, it leaves to the next.
    """
    with world.ledger() as ledger:
        runs = [run for state in RunState for run in ledger.runs.in_state(state)]
        yield from _runs(runs, dict(_prefect(world.prefect_url, reconciled_at)))
        for operation in ledger.operations.open():
            yield f"{operation.step} ({operation.key}) is {operation.state} in the ledger"
    yield from _strangers(world)
    yield from _alive(world)


def _runs(runs: list[RunRecord], in_prefect: dict[str, str]) -> Iterator[str]:
    for run in runs:
        if run.state not in _IN_PREFECT:
            yield f"run {run.id} of {run.flow} is {run.state} in the ledger"
        elif in_prefect.get(run.id) != _IN_PREFECT[run.state]:
            yield f"run {run.id} of {run.flow} is {run.state} in the ledger, and {in_prefect.get(run.id)} in Prefect"
    known = {run.id for run in runs}
    for run_id, state in in_prefect.items():
        if run_id not in known and state not in _ENDED:
            yield f"run {run_id} is {state} in Prefect, and not in the ledger"


def _strangers(world: World) -> Iterator[str]:
    """Jobs at a facility under a token that the ledger has not written down first."""
    reserved = _reserved(world.layout.root / "ledger.sqlite")
    labels = {str(task["id"]): task["function"] for task in world.facility.compute.tasks()}
    for effect in world.facility.effects():
        if effect.kind == "job" and (token_of(effect.key) or effect.key) not in reserved:
            yield f"job {effect.id} has the token {effect.key}, which the ledger does not know"
        if effect.kind == "task" and labels.get(effect.id) == _JOB and effect.key not in reserved:
            yield f"task {effect.id} is of the group {effect.key}, which the ledger does not know"


def _reserved(database: Path) -> frozenset[str]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("select detail from events where event = 'reserved'").fetchall()
    return frozenset(json.loads(detail)["token"] for (detail,) in rows)


def _alive(world: World) -> Iterator[str]:
    facility = world.facility
    yield from (f"job {job.id} is {job.state} at NERSC" for job in facility.superfacility.jobs() if not job.over)
    for job in facility.iri.jobs():
        if not JobState(str(job["state"])).over:
            yield f"job {job['id']} is {job['state']} at the site with the IRI API"
    for task in facility.compute.tasks():
        if task["stage"] not in {"success", "failed"}:
            yield f"task {task['id']} of Globus Compute is {task['stage']}"
    for line in world.jobs_log.read_text().splitlines() if world.jobs_log.exists() else ():
        job = json.loads(line)
        if _runs_program(int(job["pid"]), world.jobs_log.parent):
            yield f"a program runs on {job['scan']}, as process {job['pid']}"


def _runs_program(pid: int, folder: Path) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return str(folder).encode() in command  # another may have its number by now


def _prefect(api: str, at: datetime) -> Iterator[tuple[str, str]]:
    """The state of each run that has begun, but of those that might not have come to the ledger at that time."""
    offset = 0
    with httpx.Client(base_url=api, timeout=60.0, trust_env=False, verify=False) as client:  # noqa: S501 -- no TLS
        while True:
            asked = {"offset": offset, "limit": _PAGE, "sort": "START_TIME_ASC"}
            runs = client.post("/flow_runs/filter", json=asked).raise_for_status().json()
            for run in runs:
                state = State.model_validate(run["state"])
                if run["state_type"] in _ENDED or (run["state_type"] != "SCHEDULED" and not young(state, at=at)):
                    yield run["id"], run["state_type"]
            if len(runs) < _PAGE:
                return
            offset += _PAGE
