"""Runs whose process is gone without a word: noticed, told to Prefect, and started again.

Suspended runs for which no watcher lives are looked after, too, and so is what goes on at a facility without any run.

Prefect alone leaves them ``Running`` for ever when a worker is stopped or a machine goes down. The ledger knows which
process stood behind each run. What a dead run had done is not done twice by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from orchestration.errors import OrchestrationError, RunFailed
from orchestration.flows.agreeing import hear_unheard, tell_ends
from orchestration.flows.cancelling import bury, say_cancelled
from orchestration.flows.leftovers import clear_answers
from orchestration.flows.orphans import look_after_orphans
from orchestration.flows.overdue import renew_deletions
from orchestration.flows.promises import take_back_promises
from orchestration.flows.remains import plan_deletions, withdraw_plans
from orchestration.flows.server import insist, prefect_server
from orchestration.flows.standing import RECONCILE, hear_cancelled
from orchestration.flows.suspending import CANCELLED, SuspendedRuns
from orchestration.flows.sweeping import clear_folders, sweep
from orchestration.flows.watching import Watcher
from orchestration.flows.work import Work, working
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.service import Document, Json

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""How long Prefect may be busy with one of the steps, each of which can be repeated."""

JOB_FOLDERS_KEPT_SECONDS = 30 * 24 * 3600.0
"""What a job of this machine printed can be read for so long after its end."""

_OPEN = {StateType.RUNNING, StateType.PENDING}


@dataclass(frozen=True)
class Finding:
    """A run that had died, and what was done about it."""

    run: RunRecord
    action: str
    error: Exception | None = None

    def document(self) -> Document:
        return {"run": self.run.id, "flow": self.run.flow, "action": self.action}


@flow(name=RECONCILE, flow_run_name=RECONCILE, on_failure=[say_cancelled])
def reconcile() -> Document:
    """Close the rows of dead runs, and start them again so that their scans complete; end what nobody wants."""
    with working(RECONCILE, {}) as work:
        _asked(work, "somebody has cancelled runs in Prefect", _hear_cancelled, None)
        _asked(work, "runs have begun in Prefect, and died at once", hear_unheard, None)
        dead = [run for run in work.ledger.runs.dead() if run.id != work.run_id]
        findings = [_find_out(work, run) for run in dead]
        told: list[Json] = _asked(work, "Prefect has runs as running that have ended", tell_ends, [])
        resumed = _watch_once(work)
        orphans = [*look_after_orphans(work), *withdraw_plans(work)]
        planned = plan_deletions(work)
        renewed: list[Json] = _asked(work, "what is due will be deleted", renew_deletions, [])
        taken_back = take_back_promises(work)
        swept = sweep(work)
        _clean(work)
        cleared = clear_folders(work)
        for finding in findings:
            work.logger.warning("%s %s: %s", finding.run.flow, finding.run.id, finding.action)
        for finding in findings:
            if finding.error is not None:
                raise finding.error
        return {
            "dead_runs": [finding.document() for finding in findings],
            "told_to_prefect": told,
            "resumed_runs": resumed,
            "orphans": orphans,
            "planned_deletions": planned,
            "renewed_deletions": renewed,
            "taken_back": taken_back,
            "swept_jobs": swept,
            "cleared_jobs": cleared,
        }


def _hear_cancelled(work: Work) -> None:
    """Runs with a process that nobody told: its worker is gone, or there never was one."""
    hear_cancelled(work.ledger, SuspendedRuns(), work.ledger.runs.in_state(RunState.RUNNING))


def _asked(work: Work, what: str, ask: Callable[[Work], T], otherwise: T) -> T:
    """What is known only to Prefect: a server that is silent keeps nothing else from being reconciled."""
    try:
        return insist(partial(ask, work), seconds=PATIENCE_SECONDS)
    except OrchestrationError as doubt:
        work.ledger.runs.demand_wanted(work.run_id)
        work.logger.warning("not known whether %s: %s", what, doubt)
        return otherwise


def _clean(work: Work) -> None:
    """This machine of what jobs have left that are long over."""
    asked_about = [each.token for each in work.ledger.operations.open() if each.token is not None]
    work.services.local_jobs.clean(older_than=JOB_FOLDERS_KEPT_SECONDS, keep=asked_about)
    clear_answers(work, before=time.time() - JOB_FOLDERS_KEPT_SECONDS)


def _watch_once(work: Work) -> list[Json]:
    """Resume what can go on, where no watcher does; the ids of those runs."""
    resumed: list[Json] = []
    if work.ledger.runs.waiting() and not work.ledger.watchers.alive():
        work.logger.warning("runs are suspended and no watcher lives: start `beamline watch` as a service")
        Watcher(work.ledger, work.services, notice=resumed.append).once()
    return resumed


def _find_out(work: Work, run: RunRecord) -> Finding:
    """One run that cannot be settled must not keep the others from it."""
    try:
        return Finding(run, insist(partial(_settle, work, run), seconds=PATIENCE_SECONDS))
    except OrchestrationError as error:
        return Finding(run, f"not settled: {error.what}", error)
    except ObjectNotFound as error:
        gone = RunFailed(f"the deployment of run {run.id} of {run.flow} is gone", next_step="deploy it again")
        gone.__cause__ = error
        return Finding(run, f"not settled: {gone.what}", gone)


def _settle(work: Work, found: RunRecord) -> str:
    run = work.ledger.runs.get(found.id)
    if run is None or not run.dead(work.ledger.now()):
        return "taken up by another meanwhile"
    if run.state is RunState.CANCELLING:
        return _bury(work, run)
    with prefect_server() as client:
        known = _read(client, run.id)
        if known is not None and known.state is not None and known.state.type in CANCELLED:
            return _bury(work, run)
        if known is not None and known.state is not None and known.state.type is StateType.PAUSED:
            # Its process told Prefect that it would wait, and died before it told the ledger for what.
            work.ledger.runs.wait(run.id, {})
            client.resume_flow_run(known.id)
            return "resumed: it had died while it was being suspended"
        if known is not None and known.state is not None and known.state.type in _OPEN:
            client.set_flow_run_state(known.id, Crashed(message="Its process is gone without a word"), force=True)
        action = _resume(work, client, run, known)
    work.ledger.runs.finish(run.id, RunState.DEAD)
    return action


def _bury(work: Work, run: RunRecord) -> str:
    now = bury(work.ledger, work.services, run)
    return now.error.what if now.error is not None else now.state.value


def _resume(work: Work, client: SyncPrefectClient, run: RunRecord, known: FlowRun | None) -> str:
    if known is not None and known.auto_scheduled:
        return "closed: its schedule starts the next one"
    operations = work.ledger.operations
    if any(each.handle == run.id for each in (operations.of_scan(run.scan_id) if run.scan_id else operations.open())):
        return "closed: the run that started it carries on"
    later = work.ledger.runs.successors(run)
    if later:
        return f"closed: run {later[-1].id} carries on"
    if known is None or known.deployment_id is None:
        return "closed: it was started by hand; start it again by hand"
    again = client.create_flow_run_from_deployment(
        known.deployment_id,
        parameters=known.parameters,
        name=known.name,
        tags=known.tags,
        idempotency_key=f"resume-{run.id}",
    )
    return f"started again as {again.id}"


def _read(client: SyncPrefectClient, run_id: str) -> FlowRun | None:
    try:
        return client.read_flow_run(UUID(run_id))
    except ObjectNotFound:
        return None
