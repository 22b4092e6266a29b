"""Scheduling deletions, and carrying them out under proof."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestration.config import Endpoint, RetentionRule
from orchestration.errors import (
    Cancelled,
    DeletionUnproven,
    InvalidInput,
    OperationFailed,
    OrchestrationError,
    PolicyRefused,
)
from orchestration.flows import catalogue
from orchestration.flows.deleting import delete, settled
from orchestration.flows.inspecting import Inspection
from orchestration.flows.quarantining import again, set_aside, to_be_set_aside
from orchestration.flows.runs import RunRequest
from orchestration.flows.starting import deployment_of
from orchestration.flows.variables import PATIENT, retention_days
from orchestration.flows.warned import not_before, unwarned
from orchestration.flows.work import Work
from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyRecord, CopyState, Role
from orchestration.ledger.holds import HoldRecord
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.policy import Zone
from orchestration.retention import CLOCK_SLACK_SECONDS, Case, Proof, prove

DAY = 24 * 3600.0

SCHEDULE_DEADLINE_SECONDS = 3600.0

BUSY_SECONDS = DAY
"""So much later a scheduled deletion is tried again of what is still in use."""

FRESH_SECONDS = 120.0
"""A proof that began longer ago is made a second time: checksums, of this copy or of another, may have taken hours."""

GLOBUS_FLOW = "prune_globus_endpoint"
"""The flow that deletes at endpoints that have none of their own."""

FILESYSTEM_FLOW = "prune_filesystem_endpoint"
"""The same for endpoints that are directories of the workers' machines and nothing else."""

HARMLESS = ("prefect.run", "prefect.schedule", "globus.delete", "local.delete", "globus.rename", "local.rename")
"""Open operations that do not read the copy: runs, whose own operations count; schedules; and the deletion itself."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What came of the deletion of some copies: the proofs of those that are gone, and why others are not."""

    deleted: tuple[Proof, ...]
    quarantined: tuple[CopyRecord, ...]
    """They lie in quarantine, and have a date of deletion."""
    refused: tuple[DeletionUnproven, ...]


def schedule_pruning(
    work: Work, scan: Scan, copy: CopyRecord, *, within: float = SCHEDULE_DEADLINE_SECONDS
) -> OperationRecord | None:
    """Put the deletion of a copy into Prefect's calendar, if a rule allows it to be deleted at all.

    `within` so many seconds, or it stays open: whoever comes next carries on.
    """
    rule = work.settings.retention_rule(copy.endpoint, copy.dataset)
    if rule is None:
        work.logger.info("%s keeps its copy of %s: no retention rule", copy.endpoint, copy.path)
        return None
    if copy.set_aside:
        return work.perform(calendar_entry(work, scan, copy, within=within), work.services.prefect_schedule).record
    if scan.export_controlled and not _witnesses_allowed(work, rule):
        work.logger.info("%s keeps its copy of %s: no other place may have one", copy.endpoint, copy.path)
        return None
    if copy.role is Role.CACHE and not rule.recreatable and not _witnessed(work, rule, copy):
        work.logger.info("%s keeps its copy of %s until it has a second home", copy.endpoint, copy.path)
        return None
    if copy.delete_after is None:
        copy = work.ledger.copies.schedule(copy, copy.verified_at + retention_days(work.settings, rule) * DAY)
    return work.perform(calendar_entry(work, scan, copy, within=within), work.services.prefect_schedule).record


def in_calendar(work: Work, scan: Scan, copy: CopyRecord) -> bool:
    """Whether its deletion is planned, for the time that was set."""
    known = [] if copy.delete_after is None else work.ledger.operations.among([calendar_entry(work, scan, copy).key])
    return any(each.state is OperationState.SUCCEEDED for each in known)


def scheduled(work: Work, copy: CopyRecord) -> OperationRecord | None:
    """What has put its deletion into the calendar last, for whatever time."""
    known = [each for each in work.ledger.operations.of_scan(copy.scan_id) if each.step == planning(copy)]
    return max(known, key=lambda each: each.began_at, default=None)


def planning(copy: CopyRecord) -> str:
    """The step that puts its deletion into the calendar."""
    if copy.set_aside:
        return f"schedule deletion of {copy.dataset} from quarantine at {copy.endpoint}{again(copy)}"
    return f"schedule deletion of {copy.dataset} at {copy.endpoint}{again(copy)}"


def calendar_entry(
    work: Work, scan: Scan, copy: CopyRecord, *, within: float = SCHEDULE_DEADLINE_SECONDS
) -> Operation[RunRequest]:
    """Of the calendar."""
    deployment, named = deletion_at(scan.beamline, work.settings.endpoint(copy.endpoint))
    request = RunRequest(
        deployment=deployment,
        parameters={"relative_path": copy.lies_at.text, "generation": copy.generation, **named},
        scheduled_time=None if copy.delete_after is None else datetime.fromtimestamp(copy.delete_after, UTC),
        flow_run_name=f"prune {copy.endpoint}: {copy.path.name}"[:200],
        tags=(scan.beamline, "prune"),
    )
    return Operation(
        scan=scan,
        step=planning(copy),
        request=request,
        destination=request.place,
        deadline=within,
    )


def deletion_at(beamline: str, endpoint: Endpoint) -> tuple[str, Document]:
    """The deployment that deletes at an endpoint: its own, or a general one, with the parameter that names it."""
    deployed = {spec.flow_name for spec in catalogue.of_beamline(beamline).deployments}
    if (own := f"prune_{endpoint.name}") in deployed:
        return deployment_of(beamline, own), {}
    general = FILESYSTEM_FLOW if endpoint.uuid is None and FILESYSTEM_FLOW in deployed else GLOBUS_FLOW
    return deployment_of(beamline, general), {"source_endpoint": endpoint.name}


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
    planned = [copy for copy in present if generation is not None and not _waits(work, copy)]
    later = {copy.id: _put_off(work, copy) for copy in planned}
    done = prune_copies(work, endpoint, [copy for copy in present if not later.get(copy.id)])
    if done.refused:
        raise done.refused[0]
    deleted: list[Json] = [proof.document() for proof in done.deleted]
    return {
        "endpoint": endpoint.name,
        "path": path.text,
        "deleted": deleted,
        "quarantined": [_aside(copy) for copy in done.quarantined],
        "put off": [why for why in later.values() if why],
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


def _aside(copy: CopyRecord) -> Document:
    until = _clock(copy.delete_after)
    return {"endpoint": copy.endpoint, "path": copy.lies_at.text, "from": copy.path.text, "until": until}


def _waits(work: Work, copy: CopyRecord) -> bool:
    """Whether it lies in quarantine for a while yet."""
    if copy.state is not CopyState.QUARANTINED:
        return False
    until = due_at(work, copy)
    return until is not None and until > work.ledger.now() + CLOCK_SLACK_SECONDS


def _put_off(work: Work, copy: CopyRecord) -> str:
    """Schedules the deletion anew if it must not be yet, and says why; empty if it may go on."""
    scan = work.ledger.scans.get(copy.scan_id)
    busy, holds, now = _reading(work, scan), _holds(work, copy), work.ledger.now()
    kept_until = due_at(work, copy)
    if kept_until is None or (kept_until <= now + CLOCK_SLACK_SECONDS and not busy and not holds):
        return ""
    until = max([kept_until, *(hold.until for hold in holds if hold.until is not None)])
    later = work.ledger.copies.postpone(copy, until if until > now else now + BUSY_SECONDS)
    schedule_pruning(work, scan, later)
    why = holds[0].against(scan.id) if holds else "copies are kept for longer now"
    why = "its owner has to be warned first" if unwarned(work, copy) else why
    why = f"{busy[0].step} goes on" if busy else why
    said = f"{copy.endpoint}:{copy.path} is deleted at {_clock(later.delete_after)} at the earliest: {why}"
    work.ledger.audit.write(copy, Verdict.PUT_OFF, run_id=work.run_id, reason=why)
    work.logger.info("%s", said)
    return said


def prune_copies(work: Work, endpoint: Endpoint, copies: Sequence[CopyRecord]) -> Pruned:
    """Delete those of these copies at one endpoint that are due and proved, in one task.

    One that is not keeps no other from it. What an earlier run had begun to delete is seen to its end first. Where
    copies are set aside first, they are deleted when they come here for the second time.

    Raises:
        OperationFailed: (or another error of the endpoint) if the task failed: what is left is as it was before.
    """
    there = settled(work, copies)
    waiting = [copy for copy in there if _waits(work, copy)]
    proofs, refused = _proved(work, [copy for copy in there if copy not in waiting])
    aside = {number: proof for number, proof in proofs.items() if to_be_set_aside(work, proof.copy)}
    doubts, failures = _set_aside(work, endpoint, list(aside.values()))
    refused |= doubts
    proofs = {number: proof for number, proof in proofs.items() if number not in aside}
    while proofs:
        doubts = delete(work, endpoint, [proof.proven for proof in proofs.values()])
        if not doubts:
            break
        refused |= doubts
        proofs = {number: proof for number, proof in proofs.items() if number not in doubts}
    for copy in there:
        if copy.id in refused:
            work.ledger.audit.write(copy, Verdict.REFUSED, run_id=work.run_id, reason=refused[copy.id].what)
    quarantined = tuple(_planned(work, [*aside, *(copy.id for copy in waiting)]))
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


def _planned(work: Work, ids: Collection[int]) -> Iterator[CopyRecord]:
    """Those of the copies that lie in quarantine, once their deletion is in the calendar."""
    for copy in work.ledger.copies.among(ids):
        until = due_at(work, copy)
        if copy.state is CopyState.QUARANTINED and until is not None:
            scheduled_for = work.ledger.copies.postpone(copy, until)
            schedule_pruning(work, work.ledger.scans.get(copy.scan_id), scheduled_for)
            how = f"`beamline retention restore` brings it back until {_clock(until)}"
            work.logger.info("%s:%s lies at %s: %s", copy.endpoint, copy.path, copy.lies_at, how)
            yield scheduled_for


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
        holds=_holds(work, copy),
        open_operations=_reading(work, scan),
        results=work.ledger.results.of_scan(scan.id),
        now=work.ledger.now(),
    )
    return prove(case, settings=work.settings, inspector=inspection or Inspection(work))


def _witnesses_allowed(work: Work, rule: RetentionRule) -> bool:
    """Whether export-controlled data could ever lie where the rule wants another copy."""
    zones = [work.settings.endpoint(name).zone for name in rule.requires.any_of]
    return zones.count(Zone.BEAMLINE) >= rule.requires.min_copies


def _witnessed(work: Work, rule: RetentionRule, copy: CopyRecord) -> bool:
    """Whether there are as many other copies as the rule asks for; most results have one home only, and stay there."""
    others = work.ledger.copies.of_scan(copy.scan_id)
    counted = {
        other.endpoint
        for other in others
        if other.endpoint in rule.requires.any_of
        and (other.dataset, other.version, other.state) == (copy.dataset, copy.version, CopyState.PRESENT)
    }
    return len(counted) >= rule.requires.min_copies


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
                next_step=f"wait: watch_copies writes to owners, and it is kept until {_clock(kept_until)} at least",
            )
        raise DeletionUnproven(
            f"this copy is due for deletion at {'never' if kept_until is None else _clock(kept_until)}",
            where=f"{copy.endpoint}:{copy.path}",
            next_step="wait until then; the scheduled run deletes it",
        )


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _holds(work: Work, copy: CopyRecord) -> Sequence[HoldRecord]:
    return work.ledger.holds.keeping(copy.scan_id, endpoint=copy.endpoint, path=copy.goes_with)


def _reading(work: Work, scan: Scan) -> list[OperationRecord]:
    known = work.ledger.operations.of_scan(scan.id)
    return [operation for operation in known if operation.state.open and operation.service not in HARMLESS]
