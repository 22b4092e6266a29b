"""Deciding where a piece of work is done, so that all who do it agree; and remembering it in the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestration.errors import SiteUnavailable
from orchestration.flows.prospects import Needs, prospects, service_name
from orchestration.flows.siting import weigh
from orchestration.flows.work import Work
from orchestration.ledger.decisions import DecisionRecord, JobAt
from orchestration.ledger.operation import OperationState, canonical
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Work that can be done at any of several sites, once. `job_at` names the step of its job at a site."""

    scan: Scan
    step: str
    """For people: ``reconstruct (center=1021.5)``."""
    told_by: Json
    """What tells it from other work of the same step: parameters, the request."""
    needs: Needs
    job_at: Callable[[str], str]

    @property
    def subject(self) -> str:
        parts = [self.scan.id, self.scan.fingerprint, self.step, self.told_by]
        return hashlib.sha256(canonical(parts).encode()).hexdigest()[:32]


def choose(
    work: Work, piece: Piece, *, candidates: Sequence[str], pin: str = "", left: Mapping[str, str] | None = None
) -> DecisionRecord:
    """The decision that holds: an earlier one, if the work is or may be going on where it says, or a new one.

    `left` names sites from which this run took the work back, with the reason. The choice is among `candidates`, in
    that order of preference, and `pin`, if that is named.

    Raises:
        SiteUnavailable: if no site can take it; that decision is in the ledger, too.
        UnknownName: if the pinned site is not in the settings.
    """
    known = work.ledger.decisions.newest(piece.subject)
    left = left or {}
    if known is not None and known.site not in left and _holds(work, piece, known):
        work.logger.info("%s: at %s, as it was decided before", piece.step, known.site)
        return known
    names = list(dict.fromkeys([*candidates, *([pin] if pin else [])]))
    sites = [work.settings.site(name) for name in names]
    policy = work.settings.siting
    choice = weigh(
        prospects(work, piece.scan, sites, needs=piece.needs, left=left),
        now=work.ledger.now(),
        pin=pin,
        export_controlled=piece.scan.export_controlled,
        preference=policy.preference_seconds,
    )
    decided = work.ledger.decisions.decide(
        scan_id=piece.scan.id,
        run_id=work.run_id,
        subject=piece.subject,
        step=piece.step,
        site=choice.site or "",
        candidates=choice.candidates,
        instead_of=known,
        unless=_job(work, piece, known),
    )
    for candidate in decided.candidates:
        work.logger.info("%s: %s", piece.step, candidate.sentence)
    if not decided.site:
        raise SiteUnavailable(f"no site can take it: {choice.why_none}", where=piece.scan.path.text)
    return decided


def _job(work: Work, piece: Piece, decision: DecisionRecord | None) -> JobAt | None:
    """Where the ledger has the job of a decision; None if there can be none, as far as the settings tell."""
    if decision is None or decision.site not in work.settings.compute_sites:
        return None
    return JobAt(step=piece.job_at(decision.site), service=service_name(work.settings.site(decision.site)))


def _holds(work: Work, piece: Piece, decision: DecisionRecord) -> bool:
    """Whether the work was done where it was given, or may be going on there, or is in the hands of a live run."""
    job = _job(work, piece, decision)
    if job is None:
        return False
    if decision.run_id == work.run_id or _lives(work, decision.run_id):
        return True
    return any(
        each.state is OperationState.SUCCEEDED or (each.state.open and each.token is not None)
        for each in work.ledger.operations.of_scan(piece.scan.id)
        if (each.step, each.service) == (job.step, job.service)
    )


def _lives(work: Work, run_id: str) -> bool:
    run = work.ledger.runs.get(run_id)
    if run is None:
        return False
    return run.state is RunState.WAITING or (run.state is RunState.RUNNING and not run.dead(work.ledger.now()))
