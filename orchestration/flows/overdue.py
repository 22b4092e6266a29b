"""Deletions that were due and did not take place because Prefect lost their runs.

Prefect's calendar is a timer and no memory: the runs of a deployment go with it when it is deleted, those of a server
with its database. The ledger knows what is due. What a run was refused, the nightly sweep tries again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from prefect.client.schemas.objects import FlowRun, StateType

from orchestration.flows.calendar import entries, in_calendar, scheduled
from orchestration.flows.remains import SCHEDULE_SECONDS
from orchestration.flows.runs import RUNS_AT_ONCE, read_runs
from orchestration.flows.server import prefect_server
from orchestration.flows.work import Work
from orchestration.ledger.claims import held
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json

HOUR = 3600.0
"""So long after Prefect has refused an entry in its calendar it is asked again."""

MOST = 500
"""Deletions that are planned again at a time; the next `reconcile` goes on."""


def renew_deletions(work: Work) -> list[Json]:
    """One line for each copy whose deletion was missed and is planned again; none that cannot be planned keeps
    others elsewhere from it."""
    missed_now = {copy.id: (copy, why) for copy, why in islice(_missed(work), MOST)}
    renewed: list[Json] = []
    for copy in _renewed(work, [copy for copy, _ in missed_now.values()]):
        why = missed_now[copy.id][1]
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
    last = scheduled(work, copies)
    runs = _runs(sorted({record.handle for record in last.values() if record.handle is not None}))
    return [(copy, (record := last.get(copy.id)), runs.get(record.handle or "") if record else None) for copy in copies]


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


def _renewed(work: Work, copies: Sequence[CopyRecord]) -> Iterator[CopyRecord]:
    """Those that are in the calendar again, with a new time where they were there: that makes it another entry than
    the one that was missed.
    """
    now, timed = work.ledger.now(), list[CopyRecord]()
    for copy in copies:
        timed.append(work.ledger.copies.postpone(copy, now) if in_calendar(work, copy) else copy)
    scans = work.ledger.scans.among({copy.scan_id for copy in timed})
    for some in _alike(timed, scans):
        what = f"{some[0].endpoint}:{some[0].path}" + (f" and {len(some) - 1} more" if len(some) > 1 else "")
        with work.one_of_many(f"overdue for deletion: {what}"):
            for entry in entries(work, some, scans, within=SCHEDULE_SECONDS):
                work.perform(entry.operation, work.services.prefect_schedule)
                yield from entry.copies


def _alike(copies: Sequence[CopyRecord], scans: Mapping[str, Scan]) -> Iterable[Sequence[CopyRecord]]:
    """Those of which one that cannot be planned says that the others cannot be, either."""
    found: dict[object, list[CopyRecord]] = {}
    for copy in copies:
        scan = scans[copy.scan_id]
        alone = copy.id if scan.export_controlled else None
        found.setdefault((scan.beamline, copy.endpoint, alone), []).append(copy)
    return found.values()
