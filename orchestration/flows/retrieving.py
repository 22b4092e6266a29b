"""Bringing files back from tape: a whole bundle, some of its members, or one file wherever it is stored."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orchestration.config import Endpoint
from orchestration.config.base import suggestion
from orchestration.errors import ChecksumMismatch, InvalidInput, UnknownName
from orchestration.flows.archived import another, dataset_of, member_of, object_at
from orchestration.flows.archiving import Project, hpss, operation
from orchestration.flows.calendar import schedule_pruning
from orchestration.flows.computing import compute
from orchestration.flows.copying import look
from orchestration.flows.results import content
from orchestration.flows.work import Work
from orchestration.hpss.bundles import is_bundle, located
from orchestration.ledger.copy import LOST, CopyRecord, CopyState, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.perform import Outcome
from orchestration.ledger.service import Document, Json
from orchestration.paths import RelativePath

METHOD = "fetched from tape, sha256"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be brought: an object of the archive as the ledger knows it, and which of its files."""

    object: CopyRecord
    members: tuple[str, ...] = ()
    """None: all."""

    @property
    def files(self) -> Sequence[FileEvidence]:
        return [each for each in self.object.manifest if not self.members or each.path in self.members]


def wanted(work: Work, asked: Project, members: Collection[str] = ()) -> Wanted:
    """Of a bundle by its path, all or these members; of any other path, the newest that is stored of that file.

    Members are called as in the bundle (``<proposal>/<file>``), or without the proposal.

    Raises:
        UnknownName: if the ledger knows no such object, or a name is that of no member; nothing was asked for.
    """
    name, member = located(asked.name)
    if not is_bundle(name):
        if members:
            raise InvalidInput(f"{asked.name} is no bundle, of which members could be named", where=asked.archive.name)
        return _file(work, asked)
    known = object_at(work, asked.archive, name)
    if known is None:
        raise _unknown(work, asked, name)
    names = dict.fromkeys([*members, *([member] if member else [])])
    return Wanted(object=known, members=tuple(_member(known, each) for each in names))


def fetch(work: Work, asked: Project, what: Wanted, *, destination: str = "") -> Document:
    """Bring it to an endpoint that the archive's jobs see, by default where it was archived from.

    Files that are there already, and as they were stored, are left; others are never written over.

    Raises:
        JobFailed: also if other bytes stand there, or what was read is not what was stored; nothing was brought.
        ChecksumMismatch: if the archive has another object of that name than the ledger knows.
    """
    to = _destination(work, asked, destination)
    folder = asked.archive.source_folder if to.name == asked.archive.source else ""
    there = asked.site.path(to, RelativePath(folder)) if folder else asked.site.below_root(to.root_path)
    proposal = what.files[0].path.partition("/")[0]
    errand = hpss(work, asked).errands.fetch(what.object.path.text, what.members, posixpath.join(there, proposal))
    chosen = hashlib.sha256(json.dumps(what.members).encode()).hexdigest()[:8] if what.members else ""
    step = f"fetch {what.object.path} to {to.name}{f' [{chosen}]' if chosen else ''}"
    job = operation(work, asked, errand, step=step)
    outcome = compute(work, job, asked.site)
    same = not another(what.object, content(outcome, errand.outcome))
    if outcome.already_done and not (same and _stand(work, what, to, folder, by=job.key)):
        work.logger.warning("%s was done, but what was brought is not all there any more: done again", step)
        work.ledger.operations.expire(job.key)
        outcome = compute(work, job, asked.site)
    if doubt := another(what.object, content(outcome, errand.outcome)):
        raise ChecksumMismatch(
            f"{doubt}: what was brought does not count as a copy",
            where=f"{to.name}:{folder}",
            next_step="find out who stored it",
        )
    copies = _record(work, asked, what, to, folder, outcome)
    for copy in copies:
        schedule_pruning(work, work.ledger.scans.get(copy.scan_id), copy)
    brought: list[Json] = [each.path for each in what.files[:50]]
    return {"object": what.object.path.text, "files": len(what.files), "names": brought, "copies": len(copies)}


def _member(known: CopyRecord, name: str) -> str:
    names = {each.path for each in known.manifest}
    top = known.path.text.partition("/")[0]
    for spelled in (name, f"{top}/{name}"):
        if spelled in names:
            return spelled
    raise UnknownName(
        f"{name!r} is no member of {known.path}: {suggestion(name, names if len(names) < 20 else _near(name, names))}",
        where=f"{known.endpoint}:{known.path}",
        next_step="give the name of a member; nothing was asked for",
    )


def _near(name: str, names: Collection[str]) -> Sequence[str]:
    last = name.rpartition("/")[2][:4].lower()
    return [each for each in sorted(names) if last in each.lower()][:20] or sorted(names)[:5]


def _file(work: Work, asked: Project) -> Wanted:
    """The object of that name, or the newest with a file of that name."""
    name = asked.name
    single = object_at(work, asked.archive, name)
    if single is not None:
        return Wanted(object=single)
    top = name.partition("/")[0]
    objects = [
        copy
        for copy in work.ledger.copies.below(asked.archive.name, top)
        if copy.dataset == dataset_of(copy.path.text) and copy.state is CopyState.PRESENT
    ]
    for known in sorted(objects, key=lambda copy: copy.verified_at, reverse=True):
        if name in {each.path for each in known.manifest}:
            return Wanted(object=known, members=(name,))
    raise _unknown(work, asked, name)


def _unknown(work: Work, asked: Project, name: str) -> UnknownName:
    top = name.partition("/")[0]
    known = {copy.path.text for copy in work.ledger.copies.below(asked.archive.name, top)}
    return UnknownName(
        f"{asked.archive.name} has no {name!r}, as far as the ledger knows: {suggestion(name, known)}",
        where=asked.archive.name,
        next_step="give the path of a bundle, or of a file that is archived",
    )


def _destination(work: Work, asked: Project, name: str) -> Endpoint:
    source = work.settings.endpoint(asked.archive.source)
    to = work.settings.endpoint(name) if name else source
    if to != source and (not to.uri or to.uri != source.uri):
        raise InvalidInput(
            f"jobs of {asked.site.name} do not see {to.name}",
            where=f"globus.globus_endpoints.{to.name}",
            next_step=f"bring it to an endpoint of {source.uri}, and on from there",
        )
    return to


def _stand(work: Work, what: Wanted, to: Endpoint, folder: str, *, by: str) -> bool:
    """Whether all that was brought `by` a job is there, as far as sizes tell, and was not found changed or missing
    since; not, where nobody can look from here.
    """
    if to.uuid is None and to.mount is None:
        return False
    top = what.object.path.text.partition("/")[0]
    there = RelativePath(f"{folder}/{top}" if folder else top)
    if any(each.state in LOST and each.verified_by == by for each in work.ledger.copies.below(to.name, there.text)):
        return False
    facts = look(work, to, there)
    sizes = {} if facts is None else facts.sizes
    return all(sizes.get(each.path.removeprefix(f"{top}/")) == each.size for each in what.files)


def _record(
    work: Work, asked: Project, what: Wanted, to: Endpoint, folder: str, outcome: Outcome
) -> Sequence[CopyRecord]:
    """The datasets of scans of which all files were brought."""
    brought = {each.path for each in what.files}
    head = f"{folder}/" if folder else ""
    copies = []
    for known in work.ledger.copies.below(what.object.endpoint, what.object.path.text):
        if known.dataset == dataset_of(what.object.path.text) or known.state is not CopyState.PRESENT:
            continue
        member = member_of(known, what.object)
        if not all((f"{member}/{each.path}" if each.path else member) in brought for each in known.manifest):
            continue
        copies.append(
            work.ledger.copies.record(
                scan_id=known.scan_id,
                dataset=known.dataset,
                endpoint=to.name,
                path=RelativePath(f"{head}{member}"),
                role=Role.REPLICA,
                manifest=known.manifest,
                method=METHOD,
                verified_by=outcome.record.key,
                version=known.version,
                verified_at=outcome.record.finished_at,
            )
        )
    return copies
