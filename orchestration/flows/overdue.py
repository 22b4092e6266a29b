"""Deletions that were due and did not take place because Prefect lost their runs.

Prefect's calendar is a timer and no memory: the runs of a deployment go with it when it is deleted, those of a server
with its database. The ledger knows what is due. What a run was refused, the nightly sweep tries again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from prefect.client.schemas.objects import FlowRun, StateType

from orchestration.errors import OrchestrationError
from orchestration.flows.pruning import in_calendar, schedule_pruning, scheduled
from orchestration.flows.remains import SCHEDULE_SECONDS
from orchestration.flows.runs import RUNS_AT_ONCE, read_runs
from orchestration.flows.server import prefect_server
from orchestration.flows.work import Work
from orchestration.ledger.claims import held
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.service import Json

HOUR = 3600.0
"""So long after Prefect has refused an entry in its calendar it is asked again."""

MOST = 500
"""Deletions that are planned again at a time; the next `reconcile` goes on."""


def renew_deletions(work: Work) -> list[Json]:
    """One line for each copy whose deletion was missed and is planned again; no copy keeps another from it."""
    renewed: list[Json] = []
    for copy, why in islice(_missed(work), MOST):
        if _renew(work, copy):
            work.logger.warning("%s:%s is overdue for deletion, planned again: %s", copy.endpoint, copy.path, why)
            renewed.append({"endpoint": copy.endpoint, "path": copy.path.text, "why": why})
    return renewed


def _missed(work: Work) -> Iterator[tuple[CopyRecord, str]]:
    """The copies that nothing will delete although they are due, and why that is."""
    for copies in _pages(work):
        for copy, record, run in timers(work, copies):
            if why := missed(record, run, now=work.ledger.now()):
                yield copy, why


def timers(
    work: Work, copies: Sequence[CopyRecord]
) -> Sequence[tuple[CopyRecord, OperationRecord | None, FlowRun | None]]:
    """With each copy, what has put its deletion into the calendar last, and its run there, where Prefect knows it."""
    planned = [(copy, scheduled(work, copy)) for copy in copies]
    runs = _runs([record.handle for _, record in planned if record is not None and record.handle is not None])
    return [(copy, record, runs.get(record.handle or "") if record else None) for copy, record in planned]


def cancelled_by_hand(run: FlowRun) -> bool:
    return run.state is not None and run.state.type in {StateType.CANCELLED, StateType.CANCELLING}


def _pages(work: Work) -> Iterator[Sequence[CopyRecord]]:
    """All copies that are due where a rule lets copies be deleted, so many at a time as Prefect tells of runs."""
    before, after = work.ledger.now(), 0
    while found := work.ledger.copies.due(before, after=after, limit=RUNS_AT_ONCE):
        yield [each for each in found if each.endpoint in work.settings.retention]
        after = found[-1].id


def _runs(handles: Sequence[str]) -> Mapping[str, FlowRun]:
    if not handles:
        return {}
    with prefect_server() as client:
        return {str(run.id): run for run in read_runs(client, handles)}


def missed(record: OperationRecord | None, run: FlowRun | None, *, now: float) -> str:
    """Why the deletion that `record` was to plan will not take place; empty if it may, or is not to."""
    if record is None:
        return "it was never planned"
    if record.state is not OperationState.SUCCEEDED:
        given_up = not record.state.open and now - (record.finished_at or now) > HOUR
        broken_off = record.state.open and not held(record, now)
        return "it did not come into the calendar" if given_up or broken_off else ""
    return "Prefect does not know its run any more" if run is None else ""


def _renew(work: Work, copy: CopyRecord) -> bool:
    """With a new time where it was in the calendar: that makes it another entry than the one that was missed."""
    try:
        scan = work.ledger.scans.get(copy.scan_id)
        if in_calendar(work, scan, copy):
            copy = work.ledger.copies.postpone(copy, work.ledger.now())
        return schedule_pruning(work, scan, copy, within=SCHEDULE_SECONDS) is not None
    except OrchestrationError as error:
        work.logger.warning("%s:%s is overdue for deletion: %s", copy.endpoint, copy.path, error)
        return False
