"""What ended runs have left half done: copies whose deletion nobody planned, and plans that nobody will carry out.

A run that was killed is started again and comes back to both, unless it chooses another site then. What it had carried
to the first, or was about to, is looked after here.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestration.config import RemoteSite
from orchestration.flows.calendar import in_calendar, schedule_pruning
from orchestration.flows.copying import record_arrived
from orchestration.flows.orphans import adrift
from orchestration.flows.work import Work
from orchestration.ledger.adopt import Fate, withdraw
from orchestration.ledger.copy import RAW, CopyRecord, CopyState
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json

LOOK_BACK_SECONDS = 7 * 24 * 3600.0
"""What runs have left that ended longer ago was looked after."""

RETURN_SECONDS = 3600.0
"""In which a run that was started again in place of one that died has told the ledger so."""

SCHEDULE_SECONDS = 60.0
"""How long Prefect may be busy with one entry of its calendar; the next `reconcile` tries again."""

LIVE = {RunState.RUNNING, RunState.WAITING, RunState.CANCELLING}


# ----- copies -------------------------------------------------------------------------------------------------------


def plan_deletions(work: Work) -> list[Json]:
    """One line for each copy that had no entry in the calendar, and has one now; no scan keeps another from it."""
    planned: list[Json] = []
    for scan in _interrupted(work):
        with work.one_of_many(f"{scan.path}: not all copies have a date of deletion"):
            for copy in _unplanned(work, scan):
                if schedule_pruning(work, scan, copy, within=SCHEDULE_SECONDS) is not None:
                    work.logger.warning("%s:%s had no date of deletion, and has one now", copy.endpoint, copy.path)
                    planned.append({"endpoint": copy.endpoint, "path": copy.path.text})
    return planned


def _interrupted(work: Work) -> Iterator[Scan]:
    """The scans of runs that broke off in the last days, and that no run carries now."""
    horizon = work.ledger.now() - LOOK_BACK_SECONDS
    broken_off = work.ledger.runs.ended((RunState.DEAD, RunState.CANCELLED), since=horizon)
    for scan_id in dict.fromkeys(run.scan_id for run in broken_off):
        if scan_id is not None and not carried_now(work, scan_id):
            yield work.ledger.scans.get(scan_id)


def _unplanned(work: Work, scan: Scan) -> Iterator[CopyRecord]:
    """What is at a site is to go one day, whatever becomes of its job. Other copies wait until their flow has come so
    far as to set a time: a scan that was interrupted on its way loses none of them.
    """
    sites = {site.raw_endpoint for site in work.settings.compute_sites.values() if isinstance(site, RemoteSite)}
    for record in work.ledger.operations.of_scan(scan.id):
        if record.state is OperationState.SUCCEEDED and record.service.endswith(".transfer"):
            record_arrived(work, scan, record, at=sites)
    for copy in work.ledger.copies.of_scan(scan.id):
        to_go = copy.delete_after is not None or (copy.dataset == RAW and copy.endpoint in sites)
        ruled = work.settings.retention_rule(copy.endpoint, copy.dataset) is not None
        if copy.state is CopyState.PRESENT and to_go and ruled and not in_calendar(work, copy):
            yield copy


# ----- plans --------------------------------------------------------------------------------------------------------


def withdraw_plans(work: Work) -> list[Json]:
    """One line for each operation that was planned by a run that ended, and is closed now: nothing was asked for."""
    withdrawn: list[Json] = []
    for record in _abandoned(work):
        fate = withdraw(work.ledger, record)
        if fate is Fate.CANCELLED:
            work.logger.info("%s: its run ended before anything was asked for", record.step)
            withdrawn.append({"step": record.step, "key": record.key, "fate": fate.value})
    return withdrawn


def _abandoned(work: Work) -> list[OperationRecord]:
    return [
        record
        for record in adrift(work.ledger)
        if record.token is None and not carried_now(work, record.scan_id) and not comes_back(work, record)
    ]


def carried_now(work: Work, scan_id: str) -> bool:
    return any(run.state in LIVE for run in work.ledger.runs.of_scan(scan_id))


def comes_back(work: Work, record: OperationRecord) -> bool:
    """Whether its run may begin again: one that was started in place of it has not told the ledger yet."""
    run = None if record.run_id is None else work.ledger.runs.get(record.run_id)
    if run is None:
        return record.began_at > work.ledger.now() - RETURN_SECONDS
    if run.state is RunState.COMPLETED or work.ledger.runs.successors(run):
        return False
    return (run.finished_at or work.ledger.now()) > work.ledger.now() - RETURN_SECONDS
