"""Deletions whose proof was accepted: of one copy, or of many at one endpoint in one task.

Each copy that is being deleted names the operation that does it. Whoever finds such a copy sees that operation to its
end before asking for another: nothing is deleted by two at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from orchestration.config import Endpoint
from orchestration.errors import DeletionUnproven, InvalidInput, OperationFailed, PolicyRefused, SourceMissing
from orchestration.flows.quarantining import (
    Performer,
    again,
    carry_aside,
    carry_back,
    goes_on,
    gone,
    written_since,
)
from orchestration.flows.work import Work
from orchestration.ledger.audit import Verdict
from orchestration.ledger.claims import held
from orchestration.ledger.copy import CopyRecord, CopyState, Proven
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.runs import RunState
from orchestration.ledger.service import Request, Service
from orchestration.local.delete import REFUSED
from orchestration.transfers import DeleteRequest, RenameRequest

R = TypeVar("R", bound=Request)

DEADLINE_SECONDS = 24 * 3600.0


def delete(work: Work, endpoint: Endpoint, proven: Sequence[Proven]) -> Mapping[int, DeletionUnproven]:
    """Delete these copies, all at that endpoint, and write down that they are gone.

    Returns why some of them (by id) may not be deleted after all; the others are gone.

    Raises:
        OperationFailed: (or another error of the endpoint) if the task failed. What is left counts as before, unless it
            is not certain that the task has ended.
        ServiceUnavailable: if the endpoint does not answer, asked for the last time what is there; nothing has begun.
    """
    refused: dict[int, DeletionUnproven] = {}
    while going := [each for each in proven if each.copy.id not in refused]:
        copies = [each.copy for each in going]
        operation = _operation(work, endpoint, going)
        doubts = written_since(work, endpoint, going) or work.ledger.copies.begin_deletion(
            going, operation, service=_service(work, endpoint).name, run_id=work.run_id
        )
        if not doubts:
            return refused | _carry_out(work, endpoint, operation, copies, perform=work.perform)
        write_refused(work, copies, doubts)
        refused |= doubts
    return refused


def write_refused(work: Work, copies: Iterable[CopyRecord], refused: Mapping[int, DeletionUnproven]) -> None:
    """Into the audit: those of the copies of which it is said (by id) why they may not be deleted."""
    for copy in copies:
        if copy.id in refused:
            work.ledger.audit.write(copy, Verdict.REFUSED, run_id=work.run_id, reason=refused[copy.id].what)


def settled(work: Work, copies: Sequence[CopyRecord]) -> Sequence[CopyRecord]:
    """Those of the copies that are still there, once the deletions that others had begun of them have ended.

    One that a dead run had begun, and not asked for, is taken back: it needs a new proof.
    """
    leaving = (each for each in copies if each.state in {CopyState.DELETING, CopyState.QUARANTINED})
    keys = dict.fromkeys(each.deletion for each in leaving if each.deletion)
    if not keys:
        return copies
    for key in keys:
        _settle(work, key)
    found = work.ledger.copies.among([copy.id for copy in copies])
    generations = {copy.id: copy.generation for copy in copies}
    return [copy for copy in found if copy.state is not CopyState.DELETED and copy.generation == generations[copy.id]]


def _settle(work: Work, key: str) -> None:
    record = work.ledger.operations.get(key)
    copies = work.ledger.copies.of_deletion(key)
    if not copies:
        return
    endpoint = work.settings.endpoint(copies[0].endpoint)
    if record.state.open and record.handle is None and not _attended(work, record):
        work.ledger.operations.request_cancel(key)
    request = work.services.request_of(record)
    if not isinstance(request, DeleteRequest | RenameRequest):
        raise InvalidInput(
            "what it was to delete, or to rename, cannot be read back",
            where=record.step,
            next_step=f"put the endpoint {endpoint.name} back into config.yml as it was",
        )
    # What has ended badly is not begun again: that needs a new proof.
    perform = partial(work.perform, redo=False)
    try:
        if isinstance(request, DeleteRequest):
            _carry_out(work, endpoint, _again_as(work, record, request, endpoint), copies, perform=perform)
        elif request.path == copies[0].quarantine_path:
            carry_back(work, endpoint, _again_as(work, record, request, endpoint), copies[0], perform=perform)
        else:
            carry_aside(work, endpoint, _again_as(work, record, request, endpoint), copies[0], perform=perform)
    except (OperationFailed, InvalidInput, PolicyRefused) as error:
        work.ledger.runs.demand_wanted(work.run_id)
        if goes_on(work, key):
            raise
        work.logger.warning("%s had failed: %s", record.step, error.what)


def _attended(work: Work, record: OperationRecord) -> bool:
    """Whether another run has just proved it, and is about to ask for it."""
    run = None if record.run_id in {None, work.run_id} else work.ledger.runs.get(str(record.run_id))
    alive = run is not None and run.state is RunState.RUNNING and not run.dead(work.ledger.now())
    return alive or held(record, work.ledger.now())


def _again_as(work: Work, record: OperationRecord, request: R, endpoint: Endpoint) -> Operation[R]:
    return Operation(
        scan=replace(work.ledger.scans.get(record.scan_id), fingerprint=""),
        step=record.step,
        request=request,
        destination=endpoint.place,
        deadline=DEADLINE_SECONDS,
    )


def _operation(work: Work, endpoint: Endpoint, proven: Sequence[Proven]) -> Operation[DeleteRequest]:
    """Of many copies it is filed under the first one's scan. What is deleted does not depend on the version of a file
    that was read meanwhile, so the operation does not, either.
    """
    copies = [each.copy for each in proven]
    scan = work.ledger.scans.get(copies[0].scan_id)
    many = len(copies) > 1
    seen = tuple(each.seen for each in proven) if endpoint.uuid is None else ()
    label = f"prune {scan.path.stem}" + (f" and {len(copies) - 1} more" if many else "")
    return Operation(
        scan=replace(scan, fingerprint=""),
        step=_step(endpoint, copies),
        request=DeleteRequest(
            endpoint=endpoint,
            paths=tuple(copy.goes_with for copy in copies),
            ignore_missing=many,
            seen=seen,
            label=label,
        ),
        destination=endpoint.place,
        deadline=DEADLINE_SECONDS,
    )


def _step(endpoint: Endpoint, copies: Sequence[CopyRecord]) -> str:
    """A copy that was made anew is deleted anew."""
    if len(copies) == 1:
        return f"delete {copies[0].dataset} at {endpoint.name}{again(copies[0])}"
    which = hashlib.sha256(repr([(copy.id, copy.generation) for copy in copies]).encode()).hexdigest()[:8]
    return f"delete {len(copies)} copies at {endpoint.name} [{which}]"


def _service(work: Work, endpoint: Endpoint) -> Service[DeleteRequest]:
    return work.services.globus_delete if endpoint.uuid is not None else work.services.local_delete


def _carry_out(
    work: Work,
    endpoint: Endpoint,
    operation: Operation[DeleteRequest],
    copies: Sequence[CopyRecord],
    *,
    perform: Performer,
) -> dict[int, DeletionUnproven]:
    """Why some of the copies (by id) are still there, since they were not what had been proved; the others are gone."""
    refused: dict[int, DeletionUnproven] = {}
    try:
        perform(operation, _service(work, endpoint))
    except SourceMissing:
        work.logger.warning("%s:%s was gone before it was deleted", endpoint.name, copies[0].path)
    except (OperationFailed, InvalidInput, PolicyRefused) as error:
        left = _left_alone(work, operation, copies, error.next_step)
        if left is None:
            certain = not goes_on(work, operation.key)
            for copy in copies:
                _failed(work, endpoint, copy, error.what, certain=certain)
            raise
        refused = left
    write_refused(work, copies, refused)
    for copy in copies:
        if copy.id in refused:
            work.ledger.copies.kept(copy)
        else:
            work.ledger.copies.deleted(copy, run_id=work.run_id)
    return refused


def _left_alone(
    work: Work, operation: Operation[DeleteRequest], copies: Sequence[CopyRecord], next_step: str
) -> dict[int, DeletionUnproven] | None:
    """Why, where a deletion failed only since copies (by id) had been replaced; None if that is not how it failed."""
    record = work.ledger.operations.get(operation.key)
    rows = (record.evidence or {}).get(REFUSED)
    if record.state is not OperationState.FAILED or not isinstance(rows, list):
        return None
    why = {row["path"]: str(row["why"]) for row in rows if isinstance(row, dict)}
    return {
        copy.id: DeletionUnproven(why[copy.goes_with.text], where=f"{copy.endpoint}:{copy.path}", next_step=next_step)
        for copy in copies
        if copy.goes_with.text in why
    }


def _failed(work: Work, endpoint: Endpoint, copy: CopyRecord, why: str, *, certain: bool) -> None:
    """A task that failed may have deleted some of what it was given."""
    if certain and gone(work, endpoint, copy.goes_with):
        work.ledger.copies.deleted(copy, run_id=work.run_id)
        return
    work.ledger.audit.write(copy, Verdict.FAILED, run_id=work.run_id, reason=why)
    if certain:
        work.ledger.copies.kept(copy)
