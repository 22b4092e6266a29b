"""What the ledger has of an archive: every object with its members, and each dataset of a scan that is in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestration.config import ArchiveEndpoint
from orchestration.flows.work import Work
from orchestration.hpss.bundles import BUNDLE, located
from orchestration.hpss.manifest import Manifest, Stored
from orchestration.hpss.names import printable
from orchestration.ledger.copy import CopyRecord, CopyState, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.perform import Outcome
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.retention import CLOCK_SLACK_SECONDS

METHOD = "read back from tape, sha256"


def record_datasets(work: Work, archive: ArchiveEndpoint, manifest: Manifest, outcome: Outcome) -> Sequence[CopyRecord]:
    """Write down the datasets of scans of which an object that was just stored, and read back, has all files.

    A dataset counts only if the files that were stored are those that the ledger knows at the source.
    """
    found = {printable(each.name): each for each in manifest.members}
    top = manifest.members[0].name.partition("/")[0]
    rows = []
    for known in work.ledger.copies.below(archive.source, archive.at_source(top).text):
        files = _files(known, found, archive)
        if files is not None:
            rows.append(_dataset(work, archive, manifest, known, files, outcome))
    return rows


def dataset_of(object_path: str) -> str:
    """What the ledger calls an object of an archive itself."""
    return f"archive {object_path}"


def object_at(work: Work, archive: ArchiveEndpoint, name: str) -> CopyRecord | None:
    """The object of that path below the archive's root; None if the ledger knows none that is there."""
    known = work.ledger.copies.at(archive.name, RelativePath(name))
    present = [each for each in known if each.dataset == dataset_of(name) and each.state is not CopyState.DELETED]
    return present[0] if present else None


def member_of(known: CopyRecord, holder: CopyRecord) -> str:
    """What a dataset is called among the members of the object that holds it: a file, or the folder of its files.

    An object that is a file by itself may hold a folder of which that is the only file.
    """
    if member := located(known.path.text)[1]:
        return member
    alone, below = holder.manifest[0].path, known.manifest[0].path
    return alone.removesuffix(f"/{below}") if below else alone


def another(known: CopyRecord, report: Mapping[str, object]) -> str:
    """Why what a job has read is not the object that the ledger knows under that name, by its list; empty if it is."""
    if report.get("digest") == known.version:
        return ""
    return f"the archive has another object at {known.path} than was stored"


def record_object(
    work: Work, folder: Scan, archive: ArchiveEndpoint, manifest: Manifest, outcome: Outcome
) -> CopyRecord:
    """Write down the object itself, with all of its members; it is filed under its proposal."""
    files = [
        FileEvidence(path=printable(each.name), size=each.member.size, checksum=f"sha256:{each.sha256}")
        for each in sorted(manifest.members)
    ]
    return work.ledger.copies.record(
        scan_id=folder.id,
        dataset=dataset_of(manifest.path),
        endpoint=archive.name,
        path=RelativePath(manifest.path),
        role=Role.ARCHIVE,
        manifest=files,
        method=METHOD,
        verified_by=outcome.record.key,
        version=str(manifest.document()["digest"]),
        verified_at=outcome.record.finished_at,
    )


def _files(known: CopyRecord, found: Mapping[str, Stored], archive: ArchiveEndpoint) -> dict[str, Stored] | None:
    """The members that are this copy, by their paths below it; None if it is not all of it, or not this version."""
    if known.state is not CopyState.PRESENT or known.role is Role.ARCHIVE:
        return None
    files = {}
    for entry in known.manifest:
        path = f"{known.path}/{entry.path}" if entry.path else known.path.text
        member = found.get(archive.project(RelativePath(path)))
        if member is None or not _same(member, entry, known):
            return None
        files[entry.path] = member
    return files or None


def _same(member: Stored, entry: FileEvidence, known: CopyRecord) -> bool:
    """A file that was written to after it was verified at the source is another one."""
    algorithm, _, value = (entry.checksum or "").partition(":")
    if algorithm == "sha256":
        return value == member.sha256
    untouched = member.member.mtime_ns / 1e9 <= known.verified_at + CLOCK_SLACK_SECONDS
    return entry.size == member.member.size and untouched


def _dataset(
    work: Work,
    archive: ArchiveEndpoint,
    manifest: Manifest,
    known: CopyRecord,
    files: Mapping[str, Stored],
    outcome: Outcome,
) -> CopyRecord:
    member = archive.project(known.path)
    path = f"{manifest.path}/{member}" if manifest.kind == BUNDLE else manifest.path
    return work.ledger.copies.record(
        scan_id=known.scan_id,
        dataset=known.dataset,
        endpoint=archive.name,
        path=RelativePath(path),
        role=Role.ARCHIVE,
        manifest=[
            FileEvidence(path=name, size=each.member.size, checksum=f"sha256:{each.sha256}")
            for name, each in sorted(files.items())
        ],
        method=METHOD,
        verified_by=outcome.record.key,
        version=known.version,
        verified_at=outcome.record.finished_at,
    )
