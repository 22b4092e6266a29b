"""Removing objects of a tape archive: whole, as nothing of a bundle can be, and only when all of it is proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestration.errors import Cancelled, DeletionUnproven, InvalidInput, OperationFailed, PolicyRefused
from orchestration.flows.archived import dataset_of, member_of, object_at
from orchestration.flows.archiving import Project, operation
from orchestration.flows.computing import compute
from orchestration.flows.locating import forget_places
from orchestration.flows.proving import proof_of
from orchestration.flows.variables import retention_days
from orchestration.flows.work import Work
from orchestration.hpss.bundles import located
from orchestration.jobs import JobSpec
from orchestration.ledger.audit import Verdict
from orchestration.ledger.cancel import cancel
from orchestration.ledger.copy import CopyRecord, CopyState, Proven
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.service import Document, Json
from orchestration.times import clock

DAY = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """An object of the archive as the ledger knows it, with the datasets of scans that are in it."""

    object: CopyRecord
    datasets: tuple[CopyRecord, ...]

    @property
    def copies(self) -> tuple[CopyRecord, ...]:
        """The object last: while that is known, whoever comes next finds what is still to be written down."""
        return (*self.datasets, self.object)

    @property
    def strangers(self) -> Sequence[str]:
        """Members that are of no dataset which the ledger knows: on tape is all that is known of them."""
        known = set()
        for copy in self.datasets:
            member = member_of(copy, self.object)
            known |= {f"{member}/{each.path}" if each.path else member for each in copy.manifest}
        return sorted(each.path for each in self.object.manifest if each.path not in known)


def bundled(work: Work, asked: Project) -> Bundled:
    """The object of that path.

    Raises:
        InvalidInput: if it leads into a bundle.
        DeletionUnproven: if the ledger knows none that is there.
    """
    name, member = located(asked.name)
    if member:
        raise InvalidInput(
            f"{member} is in {name}, which can only go as a whole", where=f"{asked.archive.name}:{asked.name}"
        )
    known = object_at(work, asked.archive, name)
    if known is None:
        raise DeletionUnproven(
            "the ledger knows no object of the archive there",
            where=f"{asked.archive.name}:{name}",
            next_step="give the path of a bundle, or of a file that is stored by itself",
        )
    there = work.ledger.copies.below(asked.archive.name, name)
    gone = {CopyState.DELETED, CopyState.MISSING}
    datasets = [each for each in there if each.dataset != dataset_of(name) and each.state not in gone]
    return Bundled(object=known, datasets=tuple(datasets))


def proofs(work: Work, what: Bundled) -> Sequence[Proven]:
    """That every file of it has another verified copy, and that its time has come.

    A copy on tape that is damaged needs the others no less, and may go all the same: it is made anew only then.

    Raises:
        DeletionUnproven: naming the first that has none; nothing was removed.
    """
    where = f"{what.object.endpoint}:{what.object.path}"
    if strangers := what.strangers:
        raise DeletionUnproven(
            f"{len(strangers)} files of it are of no scan that the ledger knows, {strangers[0]} among them",
            where=where,
            next_step="fetch them, if they are wanted; what only tape has is not removed by this flow",
        )
    found = []
    for copy in what.datasets:
        _demand_age(work, copy)
        proof = proof_of(work, replace(copy, state=CopyState.PRESENT) if copy.state is CopyState.CHANGED else copy)
        found.append(replace(proof.proven, copy=copy))
    return found


def remove(work: Work, asked: Project, what: Bundled) -> Document:
    """Remove the object from tape, once all of it is proved elsewhere; or carry on with what an earlier run had begun.

    The catalogue is told that it is there no more.

    Raises:
        DeletionUnproven: if it is not proved; nothing was removed.
        JobFailed: if it could not be removed: it counts as before.
        CatalogueRefused: if the catalogue does not take it; it is removed all the same.
    """
    job = _removal(work, asked, what)
    if not _asked_for(work, what, job):
        _begin(work, asked, what, job)
    _carry_out(work, asked, what, job)
    gone: list[Json] = [f"{copy.dataset} at {copy.path}" for copy in what.datasets]
    return {"object": what.object.path.text, "removed": gone}


def rehearse(work: Work, what: Bundled) -> Document:
    """What `remove` would do now, or why not; nothing is removed or written down."""
    try:
        found: list[Json] = [each.evidence for each in proofs(work, what)]
    except DeletionUnproven as refusal:
        return {"object": what.object.path.text, "would be removed": False, "missing": refusal.what}
    return {"object": what.object.path.text, "would be removed": True, "proofs": found}


def _asked_for(work: Work, what: Bundled, job: Operation[JobSpec]) -> bool:
    """Whether an earlier run has certainly asked for its removal; what was only about to be needs a new proof."""
    if any(copy.state is not CopyState.DELETING or copy.deletion != job.key for copy in what.copies):
        return False
    known = work.ledger.operations.among([job.key])
    return any(
        each.state is OperationState.SUCCEEDED or (each.state.open and each.handle is not None) for each in known
    )


def _begin(work: Work, asked: Project, what: Bundled, job: Operation[JobSpec]) -> None:
    service = work.services.jobs(asked.site).name
    try:
        proven = [*proofs(work, what), Proven(copy=what.object)]
        refused = work.ledger.copies.begin_deletion(proven, job, service=service, run_id=work.run_id)
        for why in refused.values():
            raise why
    except DeletionUnproven as refusal:
        work.ledger.audit.write(what.object, Verdict.REFUSED, run_id=work.run_id, reason=refusal.what)
        _take_back(work, asked, what, job)
        raise


def _take_back(work: Work, asked: Project, what: Bundled, job: Operation[JobSpec]) -> None:
    """What an earlier run has begun, and this one may not: it counts again, once it is certain that it is not removed.

    What had been removed all the same is written down.
    """
    begun = [copy for copy in what.copies if copy.state is CopyState.DELETING and copy.deletion == job.key]
    if not begun:
        return
    service = work.services.jobs(asked.site)
    settle = work.services.settle_seconds(service.name)
    said = cancel(work.ledger, job.key, service, job.request, settle_seconds=settle)
    record = work.ledger.operations.get(job.key)
    if record.state is OperationState.SUCCEEDED:
        _removed(work, what)
    elif record.state.open:
        work.logger.warning("%s may still be on its way: %s", job.step, said.why or said.answer.value)
    else:
        for copy in begun:
            work.ledger.copies.kept(copy)


def _carry_out(work: Work, asked: Project, what: Bundled, job: Operation[JobSpec]) -> None:
    """What has ended badly meanwhile is not begun again: that needs a new proof."""
    try:
        compute(work, job, asked.site, redo=False)
    except (OperationFailed, InvalidInput, PolicyRefused) as error:
        if any(each.state.open for each in work.ledger.operations.among([job.key])):
            raise  # it may still go at any moment, and must not prove anything
        for copy in what.copies:
            work.ledger.copies.kept(copy)
        if not isinstance(error, Cancelled):
            work.ledger.audit.write(what.object, Verdict.FAILED, run_id=work.run_id, reason=error.what)
        raise
    _removed(work, what)


def _removed(work: Work, what: Bundled) -> None:
    forget_places(work, what.datasets)
    for copy in what.copies:
        work.ledger.copies.deleted(copy, run_id=work.run_id)


def _removal(work: Work, asked: Project, what: Bundled) -> Operation[JobSpec]:
    """One for each time that the object was stored."""
    name, generation = what.object.path.text, what.object.generation
    errand = work.services.archive(asked.archive.name).errands.remove(name, generation=generation)
    again = f" ({generation})" if generation > 1 else ""
    return operation(work, asked, errand, step=f"remove {name} from {asked.archive.name}{again}")


def _demand_age(work: Work, copy: CopyRecord) -> None:
    rule = work.settings.retention_rule(copy.endpoint, copy.dataset)
    if rule is None:
        return  # the proof says so
    until = copy.verified_at + retention_days(work.settings, rule) * DAY
    if until > work.ledger.now():
        raise DeletionUnproven(
            f"it is kept until {clock(until)}",
            where=f"{copy.endpoint}:{copy.path}",
            next_step=f"wait until then, or change `retention.{copy.endpoint}`",
        )
