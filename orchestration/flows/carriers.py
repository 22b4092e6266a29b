"""Runs that have a scan to do with together with others, and what else they have: it would be cancelled with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from orchestration.ledger import Ledger
from orchestration.ledger.batches import BatchItem, BatchRecord, ItemState
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.scan import Scan

UNFINISHED = frozenset({RunState.RUNNING, RunState.WAITING, RunState.CANCELLING})

_OPEN = frozenset({ItemState.WAITING, ItemState.RUNNING})


@dataclass(frozen=True, kw_only=True)
class Carrier:
    run: RunRecord
    others: tuple[str, ...]
    """Paths, or names in its batch, of what else it has to do with."""


def carriers(ledger: Ledger, scan: Scan) -> list[Carrier]:
    """Runs that have not ended and are not of this scan alone, but will go on with it."""
    others: defaultdict[str, set[str]] = defaultdict(set)
    for run_id, names in _members(ledger, scan):
        others[run_id] |= names
    runs = [ledger.runs.get(run_id) for run_id in others]
    return [
        Carrier(run=run, others=tuple(sorted(others[run.id])))
        for run in runs
        if run is not None and run.state in UNFINISHED and run.scan_id != scan.id
    ]


def others_in(ledger: Ledger, operation: OperationRecord, scan: Scan) -> tuple[str, ...]:
    """Paths of the other scans of which an operation carries something."""
    ids = set(ledger.operations.scans_of(operation.key)) - {scan.id}
    return tuple(sorted(each.path.text for each in ledger.scans.among(ids).values()))


def _members(ledger: Ledger, scan: Scan) -> Iterator[tuple[str, set[str]]]:
    """Ids of runs, with what else each has: in its batch, waiting to be carried, or under way in one transfer."""
    for batch, item in chain(ledger.batches.of_scan(scan.id), _not_yet_taken(ledger, scan)):
        if item.state in _OPEN:
            items = ledger.batches.items(batch.id)
            yield batch.run_id, {each.name for each in items if each.state in _OPEN and each.name != item.name}
    for run_id in {each.run_id for each in ledger.arrivals.unsettled(scan_id=scan.id)}:
        yield run_id, {each.path.text for each in ledger.arrivals.unsettled(run_id=run_id) if each.scan_id != scan.id}
    for operation in ledger.operations.of_scan(scan.id):
        if operation.state.open and operation.run_id is not None and (others := others_in(ledger, operation, scan)):
            yield operation.run_id, set(others)


def _not_yet_taken(ledger: Ledger, scan: Scan) -> Iterator[tuple[BatchRecord, BatchItem]]:
    """Items of which a run learns only when their turn comes that they are this scan: they have its folder."""
    for batch, item in ledger.batches.untaken(scan.beamline):
        if item.parameters.get("folder") == scan.path.text:
            yield batch, item
