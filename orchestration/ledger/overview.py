"""All that the ledger knows of one scan, as people ask for it."""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestration.errors import OrchestrationError, RunFailed
from orchestration.ledger import Ledger
from orchestration.ledger.audit import AuditRecord
from orchestration.ledger.batches import BatchItem, ItemState
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.decisions import DecisionRecord
from orchestration.ledger.holds import HoldRecord
from orchestration.ledger.operation import Event, OperationRecord, OperationState, canonical, error_document
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.times import iso

DELETION = "prune"
"""How the names of the flows begin that delete copies."""

KINDS = {re.compile(r"new_\w*files?_flow"): "new file", re.compile(r"xpcs_(online|batch)_flow"): "correlation"}
"""Flows that do the same to a scan, alone or with many others: the last run of any of them says how that stands."""


class ScanState(enum.StrEnum):
    REGISTERED = "registered"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    """A run ended without a word; `beamline reconcile` or the next run carries on."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    """Somebody cancelled it; not everything has confirmed that it stopped."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Overview:
    scan: Scan
    state: ScanState
    error: OrchestrationError | None
    """Why the scan is not completed; None if it is, or is still running."""
    refusals: Sequence[OrchestrationError]
    """Why copies were not deleted, where the last attempt was refused. The scan is none the worse for it."""
    runs: Sequence[RunRecord]
    operations: Sequence[OperationRecord]
    copies: Sequence[CopyRecord]
    results: Sequence[ResultRecord]
    decisions: Sequence[DecisionRecord]
    permissions: Mapping[str, Event]
    """By the key of an operation: the last decision of the policy by which it was submitted."""
    holds: Sequence[HoldRecord]
    """Those that stand now."""
    denials: Sequence[AuditRecord]
    """What the policy did not permit."""

    def document(self) -> Document:
        return {
            "scan": self.scan.id,
            "beamline": self.scan.beamline,
            "path": self.scan.path.text,
            "state": self.state.value,
            "export_controlled": self.scan.export_controlled,
            "registered_at": iso(self.scan.registered_at),
            "facts": self.scan.facts,
            "error": None if self.error is None else error_document(self.error),
            "refusals": [error_document(refusal) for refusal in self.refusals],
            "stages": [_stage(operation, self.permissions.get(operation.key)) for operation in self.operations],
            "copies": [_copy(copy) for copy in self.copies],
            "results": [_result(result) for result in self.results],
            "runs": [_run(run) for run in self.runs],
            "decisions": [_decision(decision) for decision in self.decisions],
            "holds": [hold.document() for hold in self.holds],
            "denials": [_denial(denial) for denial in self.denials],
        }


def overview(ledger: Ledger, scan: Scan) -> Overview:
    """What is known of `scan` now."""
    runs = sorted([*ledger.runs.of_scan(scan.id), *_shared(ledger, scan)], key=lambda run: run.started_at)
    operations = ledger.operations.of_scan(scan.id)
    deletions = [run for run in runs if run.flow.startswith(DELETION)]
    state, error = _standing([run for run in runs if run not in deletions], operations)
    return Overview(
        scan=scan,
        state=state,
        error=error,
        refusals=_refusals(deletions),
        runs=runs,
        operations=operations,
        copies=ledger.copies.of_scan(scan.id),
        results=ledger.results.of_scan(scan.id),
        decisions=ledger.decisions.of_scan(scan.id),
        permissions=ledger.operations.permissions(scan.id),
        holds=ledger.holds.standing(scan.id),
        denials=ledger.audit.denials(scan.id),
    )


def _shared(ledger: Ledger, scan: Scan) -> Iterator[RunRecord]:
    """Runs that carry many scans, each as far as it concerns this one."""
    for batch, item in ledger.batches.of_scan(scan.id):
        run = ledger.runs.get(batch.run_id)
        if run is not None and run.scan_id != scan.id:
            yield _share(run, item)


def _share(run: RunRecord, item: BatchItem) -> RunRecord:
    """A run that ended before it came to the scan ended so for it as well; but it has not completed it."""
    if item.state in _ENDED:
        return replace(run, state=_ENDED[item.state], error=item.error, finished_at=item.updated_at)
    return replace(run, state=RunState.DEAD) if run.state is RunState.COMPLETED else run


_ENDED = {ItemState.DONE: RunState.COMPLETED, ItemState.FAILED: RunState.FAILED}


def _refusals(deletions: Sequence[RunRecord]) -> Sequence[OrchestrationError]:
    last = {(run.flow, canonical(run.parameters)): run for run in deletions}
    return [run.error for run in last.values() if run.state is RunState.FAILED and run.error is not None]


def _standing(
    runs: Sequence[RunRecord], operations: Sequence[OperationRecord]
) -> tuple[ScanState, OrchestrationError | None]:
    """The state of the last run of each kind, the worst of them first."""
    if not runs:
        return ScanState.REGISTERED, None
    now = time.time()
    if any(run.state is RunState.WAITING or (run.state is RunState.RUNNING and not run.dead(now)) for run in runs):
        return ScanState.RUNNING, None
    for run in runs:
        if run.state is RunState.CANCELLING:
            return ScanState.CANCELLING, run.error
    newest = {_kind(run): run for run in runs}
    last = [run for run in newest.values() if not _made_good(run, newest, {run.id: run for run in runs}, operations)]
    failed = [run for run in last if run.state is RunState.FAILED]
    if failed:
        return ScanState.FAILED, _cause(failed, operations)
    if any(run.state in {RunState.RUNNING, RunState.DEAD} for run in last):
        return ScanState.INTERRUPTED, None
    for run in last:
        if run.state is RunState.CANCELLED:
            return ScanState.CANCELLED, run.error
    return ScanState.COMPLETED, None


def _made_good(
    run: RunRecord,
    newest: Mapping[str, RunRecord],
    by_id: Mapping[str, RunRecord],
    operations: Sequence[OperationRecord],
) -> bool:
    """Whether all that a run failed in was a flow that has completed since, after others of its flows had completed.

    Otherwise what it would have done next was never begun, whoever mended the first of them.
    """
    stages = [operation for operation in operations if operation.run_id == run.id]
    bad = [stage for stage in stages if stage.state is not OperationState.SUCCEEDED]
    children = [by_id.get(stage.handle or "") for stage in bad]
    return (
        run.state is RunState.FAILED
        and 0 < len(bad) < len(stages)
        and all(
            child is not None
            and newest[_kind(child)].state is RunState.COMPLETED
            and newest[_kind(child)].started_at > child.started_at
            for child in children
        )
    )


def _kind(run: RunRecord) -> str:
    return next((kind for pattern, kind in KINDS.items() if pattern.fullmatch(run.flow)), run.flow)


def _cause(failed: Sequence[RunRecord], operations: Sequence[OperationRecord]) -> OrchestrationError | None:
    """The error at the bottom of it: that of a run which waited for no other, if there is one."""
    own = [run.error for run in failed if run.error is not None and not isinstance(run.error, RunFailed)]
    waited = [run.error for run in failed if run.error is not None]
    stages = [operation.error for operation in operations if operation.state is OperationState.FAILED]
    return next(iter([*own, *waited, *(error for error in stages if error is not None)]), None)


def _stage(operation: OperationRecord, permission: Event | None) -> Document:
    return {
        "name": operation.step,
        "state": operation.state.value,
        "service": operation.service,
        "destination": operation.destination,
        "attempt": operation.attempt,
        "seconds": operation.seconds,
        "began_at": iso(operation.began_at),
        "finished_at": iso(operation.finished_at),
        "handle": operation.handle,
        "progress": operation.progress,
        "error": None if operation.error is None else error_document(operation.error),
        "key": operation.key,
        "permitted": None if permission is None else {**(permission.detail or {}), "at": iso(permission.at)},
    }


def _copy(copy: CopyRecord) -> Document:
    return {
        "dataset": copy.dataset,
        "endpoint": copy.endpoint,
        "path": copy.path.text,
        "role": copy.role.value,
        "state": copy.state.value,
        "size": copy.size,
        "files": copy.files,
        "verified": copy.method,
        "verified_at": iso(copy.verified_at),
        "delete_after": iso(copy.delete_after),
        "quarantined_at": iso(copy.quarantined_at),
        "lies_at": copy.lies_at.text,
        "deleted_at": iso(copy.deleted_at),
    }


def _result(result: ResultRecord) -> Document:
    return {
        "kind": result.kind,
        "endpoint": result.endpoint,
        "path": result.path.text,
        "receipt": result.receipt.document(),
        "created_at": iso(result.created_at),
    }


def _run(run: RunRecord) -> Document:
    return {
        "id": run.id,
        "flow": run.flow,
        "state": run.state.value,
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "error": None if run.error is None else error_document(run.error),
    }


def _decision(decision: DecisionRecord) -> Document:
    return {
        "step": decision.step,
        "site": decision.site or None,
        "run": decision.run_id,
        "decided_at": iso(decision.decided_at),
        "candidates": [{**each.document(), "sentence": each.sentence} for each in decision.candidates],
    }


def _denial(denial: AuditRecord) -> Document:
    return {
        "step": denial.dataset,
        "destination": denial.endpoint,
        "run": denial.run_id,
        "at": iso(denial.at),
        "reason": denial.reason,
        **denial.evidence,
    }
