"""The nightly deletion of all that is due: whatever became of a timer, the disks do not fill.

What to delete is decided from the ledger alone, for millions of copies. Each of those is then proved, and deleted with
others of its endpoint in one task. What cannot be proved is counted, and left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prefect import flow

from orchestration.config import RetentionRule
from orchestration.errors import Cancelled, OrchestrationError
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.emptying import remove_empty_folders
from orchestration.flows.overdue import cancelled_by_hand, timers
from orchestration.flows.proving import HARMLESS
from orchestration.flows.pruning import prune_copies
from orchestration.flows.variables import retention_days
from orchestration.flows.work import Work, working
from orchestration.ledger import Ledger
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.service import Document, Json
from orchestration.ledger.slices import batched
from orchestration.retention import Decision, Finding, Known, survey

NAME = "sweep_deletions"

AT_ONCE = 100
"""Copies that are deleted in one task: so many proofs are not older than a few minutes when it begins."""

GRACE_SECONDS = 3600.0
"""What is due for no longer than this is left to its timer."""

NAMED = 20
"""Copies of each kind that the log names; all are counted."""


@dataclass
class Night:
    """What came of one sweep."""

    found: Counter[str] = field(default_factory=Counter)
    deleted: int = 0
    quarantined: int = 0
    """Set aside, to be deleted some nights later."""
    refused: list[str] = field(default_factory=list)
    left: int = 0
    """Due, and not tried: in a rehearsal, or for want of time, and the next night goes on."""
    errors: list[OrchestrationError] = field(default_factory=list)

    def document(self) -> Document:
        refused: list[Json] = [*self.refused[:NAMED]]
        counts: Document = {finding.value: self.found[finding.value] for finding in Finding}
        return {
            **counts,
            "deleted": self.deleted,
            "quarantined": self.quarantined,
            "refused": len(self.refused),
            "left": self.left,
            "why": refused,
        }


@flow(name=NAME, flow_run_name=NAME, on_failure=[say_cancelled])
def sweep_deletions(hours: float = 6.0, dry_run: bool = True) -> Document:
    """Delete every copy that is due and proved, and say how many are not; begins nothing new after so many `hours`.

    A person is only told how many are due, unless dry_run is false, as it is in the deployment.
    """
    with working(NAME, {"hours": hours, "dry_run": dry_run}) as work:
        night = Night()
        until = time.monotonic() + hours * 3600.0
        if not dry_run:
            remove_empty_folders(work)
        _carry_out(work, night, due_by_endpoint(work, night), until, dry_run=dry_run)
        return night.document()


def sweep_at_once(work: Work, night: Night, endpoints: Collection[str], *, until: float, dry_run: bool) -> None:
    """Delete all that is due at these endpoints and proved, however short a time it is due for.

    Raises:
        OrchestrationError: the first of those that kept something from being deleted.
    """
    _carry_out(work, night, due_by_endpoint(work, night, grace=0.0, only=endpoints), until, dry_run=dry_run)


def _carry_out(work: Work, night: Night, due: Mapping[str, Sequence[int]], until: float, *, dry_run: bool) -> None:
    if dry_run:
        work.logger.info("nothing was deleted: start it with dry_run=False, or --delete in a terminal, for that")
        night.left = sum(map(len, due.values()))
        due = {}
    for endpoint, ids in due.items():
        _sweep(work, night, endpoint, ids, until)
    _tell(work, night)
    if night.errors:
        raise night.errors[0]


def due_by_endpoint(
    work: Work, night: Night, *, grace: float = GRACE_SECONDS, only: Collection[str] | None = None
) -> Mapping[str, Sequence[int]]:
    """The ids of the copies to delete, those that are longest overdue first; all findings are counted.

    Of what is due for no longer than `grace` seconds nothing is said; with `only`, of what is elsewhere neither.
    """
    due: dict[str, list[tuple[float, int]]] = {}
    for decision in decisions(work, grace=grace):
        if only is not None and decision.row.endpoint not in only:
            continue
        night.found[decision.finding.value] += 1
        row = decision.row
        if decision.finding is Finding.DUE:
            due.setdefault(row.endpoint, []).append((row.delete_after or 0.0, row.id))
        elif decision.finding is Finding.UNPROVEN and night.found[Finding.UNPROVEN.value] <= NAMED:
            what = f"{row.dataset} of scan {row.scan_id} at {row.endpoint}"
            work.logger.warning("%s is due and not proved: `beamline retention explain %s`", what, row.scan_id)
    return {endpoint: [number for _, number in sorted(rows)] for endpoint, rows in due.items()}


def decisions(work: Work, *, grace: float = GRACE_SECONDS) -> Iterator[Decision]:
    """On all copies that are due for so many seconds.

    Raises:
        ServiceUnavailable: if Prefect, which knows for how long operators keep copies, does not answer.
    """
    before = work.ledger.now() - grace
    return survey(
        work.ledger.due.scans(before),
        settings=work.settings,
        days=lambda rule: retention_days(work.settings, rule),
        known=known(work.ledger, catalogue=any(_asks(rule) for rule in work.settings.retention.values())),
        before=before,
    )


def known(ledger: Ledger, *, catalogue: bool) -> Known:
    due = ledger.due
    return Known(
        held=due.held(),
        busy=due.busy(harmless=HARMLESS),
        catalogued=due.catalogued() if catalogue else frozenset(),
        warned=ledger.notices.warned(),
    )


def _asks(rule: RetentionRule) -> bool:
    return rule.catalogued or any(each.catalogued for each in rule.datasets.values())


def _sweep(work: Work, night: Night, endpoint: str, ids: Sequence[int], until: float) -> None:
    """One endpoint. A task that fails keeps the others from nothing, unless it is the third in a row."""
    failures = 0
    for some in batched(ids, AT_ONCE):
        if time.monotonic() > until or failures > 2:
            night.left += len(some)
            continue
        try:
            done = prune_copies(work, work.settings.endpoint(endpoint), _wanted(work, some))
        except Cancelled:
            raise
        except OrchestrationError as error:
            work.logger.warning("%s: %s", endpoint, error)
            night.errors.append(error)
            night.left += len(some)
            failures += 1
            continue
        failures = 0
        night.deleted += len(done.deleted)
        night.quarantined += len(done.quarantined)
        night.refused += [refusal.sentence for refusal in done.refused]


def _wanted(work: Work, ids: Sequence[int]) -> Sequence[CopyRecord]:
    """Without those whose deletion a person has cancelled in Prefect."""
    copies = work.ledger.copies.among(ids)
    cancelled = {copy.id for copy, _, run in timers(work, copies) if run is not None and cancelled_by_hand(run)}
    return [copy for copy in copies if copy.id not in cancelled]


def _tell(work: Work, night: Night) -> None:
    for why in night.refused[:NAMED]:
        work.logger.warning("not deleted: %s", why)
    counts = ", ".join(f"{number} {finding}" for finding, number in sorted(night.found.items()))
    done = f"{night.deleted} deleted, {night.quarantined} set aside, {len(night.refused)} refused, {night.left} left"
    work.logger.info("%s; %s", counts, done)
