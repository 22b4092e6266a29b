"""When a copy is due for deletion, and the proof that it may go, as a flow makes it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.errors import DeletionUnproven
from orchestration.flows.calendar import DAY
from orchestration.flows.inspecting import Inspection
from orchestration.flows.variables import PATIENT, retention_days
from orchestration.flows.warned import not_before, unwarned
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.holds import HoldRecord
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.scan import Scan
from orchestration.retention import CLOCK_SLACK_SECONDS, Case, Proof, prove
from orchestration.times import clock

HARMLESS = ("prefect.run", "prefect.schedule", "globus.delete", "local.delete", "globus.rename", "local.rename")
"""Open operations that do not read the copy: runs, whose own operations count; schedules; and the deletion itself."""


def proof_of(work: Work, copy: CopyRecord, *, inspection: Inspection | None = None) -> Proof:
    """That it may be deleted now, apart from whether its time has come.

    Raises:
        DeletionUnproven: saying what is missing.
    """
    scan = work.ledger.scans.get(copy.scan_id)
    case = Case(
        copy=copy,
        rule=work.settings.retention_rule(copy.endpoint, copy.dataset),
        others=work.ledger.copies.of_scan(scan.id),
        holds=holds_on(work, copy),
        open_operations=reading(work, scan),
        results=work.ledger.results.of_scan(scan.id),
        now=work.ledger.now(),
    )
    return prove(case, settings=work.settings, inspector=inspection or Inspection(work))


def due_at(work: Work, copy: CopyRecord, *, patience: float = PATIENT) -> float | None:
    """The time that was set when the copy was made, or a later one: operators keep copies for longer since, or the
    owner has to be warned first.

    Raises:
        ServiceUnavailable: if Prefect, which knows what operators have set, does not answer within `patience` seconds.
    """
    rule = work.settings.retention_rule(copy.endpoint, copy.dataset)
    if copy.delete_after is None or rule is None:
        return copy.delete_after
    if copy.quarantined_at is not None:
        return max(copy.delete_after, copy.quarantined_at + rule.grace_days * DAY)
    aged = copy.verified_at + retention_days(work.settings, rule, patience=patience) * DAY
    return max(copy.delete_after, aged, not_before(work, copy, rule))


def demand_due(work: Work, copy: CopyRecord) -> None:
    """Raises DeletionUnproven."""
    kept_until = due_at(work, copy)
    if kept_until is None or kept_until > work.ledger.now() + CLOCK_SLACK_SECONDS:
        if unwarned(work, copy):
            raise DeletionUnproven(
                "its owner has not been warned",
                where=f"{copy.endpoint}:{copy.path}",
                next_step=f"wait: watch_copies writes to owners, and it is kept until {moment(kept_until)} at least",
            )
        raise DeletionUnproven(
            f"this copy is {'never due' if kept_until is None else f'not due before {clock(kept_until)}'}",
            where=f"{copy.endpoint}:{copy.path}",
            next_step="wait until then; the scheduled run deletes it",
        )


def moment(seconds: float | None) -> str:
    """As people read it; empty if there is none."""
    return "" if seconds is None else clock(seconds)


def holds_on(work: Work, copy: CopyRecord) -> Sequence[HoldRecord]:
    return work.ledger.holds.keeping(copy)


def reading(work: Work, scan: Scan) -> list[OperationRecord]:
    known = work.ledger.operations.of_scan(scan.id)
    return [operation for operation in known if operation.state.open and operation.service not in HARMLESS]
