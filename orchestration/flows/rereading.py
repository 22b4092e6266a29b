"""Copies on tape, read back: before they let another copy go, and whenever somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestration.config import NerscSite
from orchestration.errors import ChecksumMismatch, ConfigError, JobFailed
from orchestration.flows.archived import METHOD, another, object_at
from orchestration.flows.archiving import Project, operation
from orchestration.flows.computing import asked_at, compute
from orchestration.flows.results import content
from orchestration.flows.work import Work
from orchestration.hpss.bundles import located
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.nersc.archive import damage

MOST_NAMES_BYTES = 60_000
"""Of the members that are named to one job; of more, the whole object is read."""


def verify_archived(work: Work, copy: CopyRecord) -> CopyRecord:
    """Read an archived copy back from tape, all its bytes, and compare them with what was stored.

    Raises:
        ChecksumMismatch: if they are not that; the copy counts as changed then, and proves nothing any more.
        JobFailed: if it could not be read.
    """
    archive = work.settings.archive(copy.endpoint)
    site = work.settings.site(archive.site)
    if not isinstance(site, NerscSite):
        raise ConfigError(f"{archive.site} has no hsi and htar", where=f"archives.{archive.name}.site")
    name, _ = located(copy.path.text)
    # What is read does not depend on the version of a file that was taken meanwhile.
    scan = replace(work.ledger.scans.get(copy.scan_id), fingerprint="")
    asked = Project(scan=scan, name=name, archive=archive, site=site)
    errand = work.services.archive(archive.name).errands.verify(name, _members(copy), since=copy.evidence_at)
    # One reading for each time at which it was verified last: asked for again after that, it is another.
    step = f"read {copy.dataset} back from {copy.endpoint}, verified at {copy.evidence_at:.3f}"
    try:
        outcome = compute(work, operation(work, asked, errand, step=step), site)
    except JobFailed as error:
        if (mismatch := damage(error)) is None:
            raise
        _changed(work, copy, mismatch.what)
        raise mismatch from error
    known = object_at(work, archive, name)
    if known is not None and (what := another(known, content(outcome, errand.outcome))):
        _changed(work, copy, what)
        raise ChecksumMismatch(what, where=f"{copy.endpoint}:{copy.path}", next_step="find out who stored it")
    return work.ledger.copies.verified(copy, method=METHOD, at=asked_at(work, outcome))


def _members(copy: CopyRecord) -> Sequence[str]:
    """None of an object that is read as a whole: a file by itself, a bundle, a folder of very many files."""
    _, member = located(copy.path.text)
    if not member:
        return ()
    names = [f"{member}/{each.path}" if each.path else member for each in copy.manifest]
    return names if sum(len(name.encode()) + 12 for name in names) < MOST_NAMES_BYTES else ()


def _changed(work: Work, copy: CopyRecord, why: str) -> None:
    """All copies that lie in the object if the whole of it was read; otherwise the one that was."""
    name, member = located(copy.path.text)
    known = [copy] if member and _members(copy) else work.ledger.copies.below(copy.endpoint, name)
    for each in known:
        work.ledger.copies.found(each, CopyState.CHANGED, why=why, by_checksum=True)
