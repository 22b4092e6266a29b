"""Scheduling deletions, and carrying them out under proof."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orchestration.config import Endpoint
from orchestration.errors import (
    Cancelled,
    DeletionUnproven,
    InvalidInput,
    OperationFailed,
    OrchestrationError,
    PolicyRefused,
)
from orchestration.flows.calendar import DAY, schedule_all
from orchestration.flows.deleting import delete, settled, write_refused
from orchestration.flows.inspecting import Inspection
from orchestration.flows.proving import demand_due, due_at, holds_on, moment, proof_of, reading
from orchestration.flows.quarantining import set_aside, to_be_set_aside
from orchestration.flows.warned import unwarned
from orchestration.flows.work import Work
from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.service import Document, Json
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.retention import CLOCK_SLACK_SECONDS, Proof
from orchestration.times import iso

BUSY_SECONDS = DAY
"""So much later a scheduled deletion is tried again of what is still in use."""

FRESH_SECONDS = 120.0
"""A proof that began longer ago is made a second time: checksums, of this copy or of another, may have taken hours."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What came of the deletion of some copies: the proofs of those that are gone, and why others are not."""

    deleted: tuple[Proof, ...]
    quarantined: tuple[CopyRecord, ...]
    """They lie in quarantine, and have a date of deletion."""
    refused: tuple[DeletionUnproven, ...]


def prune(work: Work, endpoint: Endpoint, path: RelativePath, *, generation: int | None = None) -> Document:
    """Delete what the ledger knows at that place, once another verified copy of it is proved.

    A run that was scheduled for one `generation` of a copy leaves later ones alone: they have runs of their own. What
    is in use, or is to be kept for longer now, it puts off; a person who asks for it is told so.

    Raises:
        DeletionUnproven: if it is not proved, not due, or nothing that the ledger knows; nothing was deleted.
    """
    present = present_at(work, endpoint, path, generation)
    for copy in present:
        work.ledger.runs.carries(work.run_id, copy.scan_id)
    planned = [copy for copy in present if generation is not None and not waits(work, copy)]
    later = put_off(work, planned)
    done = prune_copies(work, endpoint, [copy for copy in present if copy.id not in later])
    if done.refused:
        raise done.refused[0]
    deleted: list[Json] = [proof.document() for proof in done.deleted]
    return {
        "endpoint": endpoint.name,
        "path": path.text,
        "deleted": deleted,
        "quarantined": [aside(copy) for copy in done.quarantined],
        "put off": [*later.values()],
    }


def present_at(work: Work, endpoint: Endpoint, path: RelativePath, generation: int | None) -> Sequence[CopyRecord]:
    """The copies that are there, of all generations or of one.

    Raises:
        DeletionUnproven: if the ledger knows nothing there, and never did.
    """
    known = work.ledger.copies.at(endpoint.name, path)
    if not known and generation is not None and path.text.startswith(f"{QUARANTINE}/"):
        work.logger.info("%s:%s was brought back from quarantine", endpoint.name, path)
        return ()
    if not known:
        raise DeletionUnproven(
            "the ledger knows no copy there",
            where=f"{endpoint.name}:{path}",
            next_step="check the path; files that this service did not put there are left alone",
        )
    present = [
        copy
        for copy in known
        if copy.state is not CopyState.DELETED and (generation is None or copy.generation == generation)
    ]
    if not present:
        work.logger.info("%s:%s was already deleted, or has been made anew", endpoint.name, path)
    return present


def aside(copy: CopyRecord) -> Document:
    until = iso(copy.delete_after)
    return {"endpoint": copy.endpoint, "path": copy.lies_at.text, "from": copy.path.text, "until": until}


def waits(work: Work, copy: CopyRecord) -> bool:
    """Whether it lies in quarantine for a while yet."""
    if copy.state is not CopyState.QUARANTINED:
        return False
    until = due_at(work, copy)
    return until is not None and until > work.ledger.now() + CLOCK_SLACK_SECONDS


def put_off(work: Work, copies: Sequence[CopyRecord]) -> Mapping[int, str]:
    """Schedules the deletion anew of those that must not go yet, and says why, by their ids."""
    now = work.ledger.now()
    later = [found for copy in copies if (found := _later(work, copy, now)) is not None]
    schedule_all(work, [copy for copy, _ in later])
    said: dict[int, str] = {}
    for copy, why in later:
        said[copy.id] = f"{copy.endpoint}:{copy.path} is deleted at {moment(copy.delete_after)} at the earliest: {why}"
        work.ledger.audit.write(copy, Verdict.PUT_OFF, run_id=work.run_id, reason=why)
        work.logger.info("%s", said[copy.id])
    return said


def _later(work: Work, copy: CopyRecord, now: float) -> tuple[CopyRecord, str] | None:
    """The copy with a later time, and why; None if it may go."""
    scan = work.ledger.scans.get(copy.scan_id)
    busy, holds = reading(work, scan), holds_on(work, copy)
    kept_until = due_at(work, copy)
    if kept_until is None or (kept_until <= now + CLOCK_SLACK_SECONDS and not busy and not holds):
        return None
    until = max([kept_until, *(hold.until for hold in holds if hold.until is not None)])
    why = holds[0].against(scan.id) if holds else "copies are kept for longer now"
    why = "its owner has to be warned first" if unwarned(work, copy) else why
    why = f"{busy[0].step} goes on" if busy else why
    return work.ledger.copies.postpone(copy, until if until > now else now + BUSY_SECONDS), why


def prune_copies(work: Work, endpoint: Endpoint, copies: Sequence[CopyRecord]) -> Pruned:
    """Delete those of these copies at one endpoint that are due and proved, in one task.

    One that is not keeps no other from it. What an earlier run had begun to delete is seen to its end first. Where
    copies are set aside first, they are deleted when they come here for the second time.

    Raises:
        OperationFailed: (or another error of the endpoint) if the task failed: what is left is as it was before.
    """
    there = settled(work, copies)
    waiting = [copy for copy in there if waits(work, copy)]
    proofs, refused = _proved(work, [copy for copy in there if copy not in waiting])
    aside = {number: proof for number, proof in proofs.items() if to_be_set_aside(work, proof.copy)}
    doubts, failures = _set_aside(work, endpoint, list(aside.values()))
    refused |= doubts
    proofs = {number: proof for number, proof in proofs.items() if number not in aside}
    write_refused(work, there, refused)
    doubts = delete(work, endpoint, [proof.proven for proof in proofs.values()])
    refused |= doubts
    proofs = {number: proof for number, proof in proofs.items() if number not in doubts}
    quarantined = tuple(_planned(work, fresh=aside, waiting=[copy.id for copy in waiting]))
    for failure in failures:
        raise failure
    return Pruned(deleted=tuple(proofs.values()), quarantined=quarantined, refused=tuple(refused.values()))


def _proved(work: Work, copies: Sequence[CopyRecord]) -> tuple[dict[int, Proof], dict[int, DeletionUnproven]]:
    """Of each of the copies (by id) the proof, none of which is old when the last is made, or why there is none."""
    inspection = Inspection(work)
    proofs, refused = _tried(work, copies, inspection)
    old = [each.copy for each in proofs.values() if each.began_at < work.ledger.now() - FRESH_SECONDS]
    if old:
        again, refused_again = _tried(work, old, inspection)
        proofs = {number: again.get(number, each) for number, each in proofs.items() if number not in refused_again}
        refused |= refused_again
    return proofs, refused


def _tried(
    work: Work, copies: Sequence[CopyRecord], inspection: Inspection
) -> tuple[dict[int, Proof], dict[int, DeletionUnproven]]:
    proofs: dict[int, Proof] = {}
    refused: dict[int, DeletionUnproven] = {}
    for copy in copies:
        try:
            demand_due(work, copy)
            proofs[copy.id] = proof_of(work, copy, inspection=inspection)
        except DeletionUnproven as refusal:
            refused[copy.id] = refusal
    return proofs, refused


def _set_aside(
    work: Work, endpoint: Endpoint, proofs: Sequence[Proof]
) -> tuple[Mapping[int, DeletionUnproven], Sequence[OrchestrationError]]:
    """Why some of the copies may not be deleted after all, and the errors of those that kept their names."""
    doubts: dict[int, DeletionUnproven] = {}
    failures: list[OrchestrationError] = []
    for proof in proofs:
        try:
            if doubt := set_aside(work, endpoint, proof.proven):
                doubts[proof.copy.id] = doubt
        except Cancelled:
            raise
        except (OperationFailed, InvalidInput, PolicyRefused) as failure:
            failures.append(failure)
    return doubts, failures


def _planned(work: Work, *, fresh: Collection[int], waiting: Collection[int]) -> Sequence[CopyRecord]:
    """Those of the copies that lie in quarantine, once their deletion is in the calendar.

    Those of a dataset that were set aside together, one after another, are due together: that of the last.
    """
    lying = [copy for copy in work.ledger.copies.among([*fresh, *waiting]) if copy.state is CopyState.QUARANTINED]
    due = {copy.id: until for copy in lying if (until := due_at(work, copy)) is not None}
    last: dict[str, float] = {}
    for copy in lying:
        if copy.id in due and copy.id in fresh:
            last[copy.dataset] = max(due[copy.id], last.get(copy.dataset, 0.0))
    ends = {copy.id: last[copy.dataset] if copy.id in fresh else due[copy.id] for copy in lying if copy.id in due}
    timed = [work.ledger.copies.postpone(copy, ends[copy.id]) for copy in lying if copy.id in ends]
    schedule_all(work, timed)
    for copy in timed:
        how = f"`beamline retention restore` brings it back until {moment(copy.delete_after)}"
        work.logger.info("%s:%s lies at %s: %s", copy.endpoint, copy.path, copy.lies_at, how)
    return timed
