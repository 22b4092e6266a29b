"""Copies that are set aside before they are deleted: into quarantine, and back from there.

Each is renamed below the root of its own endpoint, so that it costs nothing and can be undone. Nothing looks for data
there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from orchestration.config import Endpoint
from orchestration.errors import (
    ConfigError,
    DeletionUnproven,
    InvalidInput,
    OperationFailed,
    OrchestrationError,
    PolicyRefused,
    ServiceUnavailable,
    SourceChanged,
    SourceMissing,
)
from orchestration.flows.variables import QUICK, retention_days
from orchestration.flows.work import Work
from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyRecord, CopyState, Proven
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import Outcome
from orchestration.ledger.service import Service
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.transfers import RenameRequest, shown

DAY = 24 * 3600.0

DEADLINE_SECONDS = 3600.0

Performer: TypeAlias = Callable[[Operation[Any], Service[Any]], Outcome]


def again(copy: CopyRecord) -> str:
    """What tells the steps of a copy that was made anew from those of the one before."""
    return f" ({copy.generation})" if copy.generation > 1 else ""


def goes_on(work: Work, key: str) -> bool:
    """Given up without a certain end: the copy may be gone at any moment, and must not prove anything for others."""
    return any(record.state.open for record in work.ledger.operations.among([key]))


def gone(work: Work, endpoint: Endpoint, path: RelativePath) -> bool:
    """Whether nothing stands there any more, where other things do: on a disk that is not mounted nothing does."""
    if work.services.look(endpoint, path) is not None:
        return False
    return not work.services.is_empty(endpoint, patience=work.settings.transfer.min_seconds)


def grace_days(work: Work, copy: CopyRecord) -> float:
    """How long a copy lies in quarantine before it is deleted; 0 if it is deleted at once."""
    rule = work.settings.retention_rule(copy.endpoint, copy.dataset)
    can = work.settings.endpoint(copy.endpoint).can_rename
    return rule.grace_days if can and rule is not None else 0.0


def to_be_set_aside(work: Work, copy: CopyRecord) -> bool:
    """What was begun in one way is ended in that way."""
    return copy.state is CopyState.PRESENT and grace_days(work, copy) > 0


def written_since(work: Work, endpoint: Endpoint, proven: Sequence[Proven]) -> Mapping[int, DeletionUnproven]:
    """Of which copies (by id) there is something else by now than their proofs saw, or nothing any more.

    Globus cannot be told what it is to find, so that this last look comes directly before it is asked. Who deletes on
    this machine looks himself.
    """
    if endpoint.uuid is None:
        return {}
    found = {each.copy.id: work.services.look(endpoint, each.copy.goes_with) for each in proven}
    return {
        each.copy.id: DeletionUnproven(
            f"it {'vanished' if found[each.copy.id] is None else 'was written to'} while its deletion was being proved",
            where=f"{endpoint.name}:{each.copy.path}",
            next_step="find out who did that; the next night looks at it anew",
        )
        for each in proven
        if shown(found[each.copy.id]) != each.seen
    }


def set_aside(work: Work, endpoint: Endpoint, proven: Proven) -> DeletionUnproven | None:
    """Put a copy whose deletion was proved into quarantine; why it may not be deleted after all, or None.

    Raises:
        OperationFailed: (or another error of the endpoint) if it has kept its name, unless that is not certain.
    """
    copy = proven.copy
    if written := written_since(work, endpoint, [proven]):
        return written[copy.id]
    aside = _place(work, copy)
    seen = proven.seen if endpoint.uuid is None else ""
    request = RenameRequest(endpoint=endpoint, path=copy.path, to=aside, to_is_ours=True, seen=seen)
    operation = _operation(work, copy, f"quarantine {copy.dataset} at {endpoint.name}", request)
    service = renamer(work, endpoint)
    refused = work.ledger.copies.begin_deletion(
        [proven], operation, service=service.name, run_id=work.run_id, aside=aside
    )
    if copy.id in refused:
        return refused[copy.id]
    try:
        carry_aside(work, endpoint, operation, copy, perform=work.perform)
    except SourceChanged as change:
        where = f"{endpoint.name}:{copy.path}"
        return DeletionUnproven(change.what, where=where, next_step="find out who did that; the next night looks anew")
    return None


def carry_aside(
    work: Work, endpoint: Endpoint, operation: Operation[RenameRequest], copy: CopyRecord, *, perform: Performer
) -> None:
    try:
        perform(operation, renamer(work, endpoint))
    except SourceMissing:
        work.logger.warning("%s:%s was gone before it was set aside", endpoint.name, copy.path)
        work.ledger.copies.deleted(copy, run_id=work.run_id)
    except (OperationFailed, InvalidInput, PolicyRefused) as error:
        _failed(work, endpoint, operation, copy, error)
        raise
    else:
        until = work.ledger.now() + grace_days(work, copy) * DAY
        work.ledger.quarantine.entered(copy, delete_after=until, run_id=work.run_id)


def _failed(
    work: Work, endpoint: Endpoint, operation: Operation[RenameRequest], copy: CopyRecord, error: OrchestrationError
) -> None:
    certain = not goes_on(work, operation.key)
    if certain and gone(work, endpoint, copy.path):
        work.ledger.copies.deleted(copy, run_id=work.run_id)
        return
    if not isinstance(error, SourceChanged):  # that is a refusal, which is written down with all others
        work.ledger.audit.write(copy, Verdict.FAILED, run_id=work.run_id, reason=error.what)
    if certain:
        work.ledger.copies.kept(copy)


def bringing_back(work: Work, endpoint: Endpoint, copy: CopyRecord) -> Operation[RenameRequest]:
    request = RenameRequest(endpoint=endpoint, path=copy.lies_at, to=copy.path)
    return _operation(work, copy, f"restore {copy.dataset} at {endpoint.name}", request)


def carry_back(
    work: Work,
    endpoint: Endpoint,
    operation: Operation[RenameRequest],
    copy: CopyRecord,
    *,
    perform: Performer,
    who: str = "",
) -> None:
    """Out of quarantine, to where it was before; for a run, or for a person (`who`).

    Raises:
        OperationFailed: (or another error of the endpoint) if it has stayed there, unless that is not certain.
    """
    until = _as_if_new(work, copy)
    try:
        perform(operation, renamer(work, endpoint))
    except (OperationFailed, InvalidInput, PolicyRefused):
        if not goes_on(work, operation.key):
            work.ledger.quarantine.stays(copy)
        raise
    run_id = None if who else work.run_id
    work.ledger.quarantine.left(copy, delete_after=until, run_id=run_id, who=who)


def renamer(work: Work, endpoint: Endpoint) -> Service[RenameRequest]:
    return work.services.globus_rename if endpoint.uuid is not None else work.services.local_rename


def _operation(work: Work, copy: CopyRecord, step: str, request: RenameRequest) -> Operation[RenameRequest]:
    """It does not depend on the version of a file that was read meanwhile."""
    return Operation(
        scan=replace(work.ledger.scans.get(copy.scan_id), fingerprint=""),
        step=f"{step}{again(copy)}",
        request=request,
        destination=request.place,
        deadline=DEADLINE_SECONDS,
    )


def _place(work: Work, copy: CopyRecord) -> RelativePath:
    """In a folder of its own: whatever stands there is this very copy."""
    day = datetime.fromtimestamp(work.ledger.now(), UTC).date().isoformat()
    return RelativePath(f"{QUARANTINE}/{day}/{copy.id}-{copy.generation}/{copy.path.name}")


def _as_if_new(work: Work, copy: CopyRecord) -> float | None:
    """When a copy that came back may go. If operators have set a longer time, it is asked for again then."""
    rule = work.settings.retention_rule(copy.endpoint, copy.dataset)
    if rule is None:
        return None
    try:
        days = retention_days(work.settings, rule, patience=QUICK)
    except (ServiceUnavailable, ConfigError) as silence:
        work.logger.warning("the age at which copies go is taken from config.yml: %s", silence.what)
        days = rule.after_days
    return work.ledger.now() + days * DAY
