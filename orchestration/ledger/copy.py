"""A copy: where bytes of a scan or of its results are, and how that was proved."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import RowMapping

from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath

RAW = "raw"
"""The dataset that was acquired."""


class Role(enum.StrEnum):
    ORIGINAL = "original"
    REPLICA = "replica"
    CACHE = "cache"
    """Can be made again from a receipt."""
    ARCHIVE = "archive"
    """On tape, in a bundle or by itself; its path leads through the bundle to the member."""


class CopyState(enum.StrEnum):
    """::

    present ──> deleting ──> deleted ──> present (made again: the next generation)
     ^   ^─────────┘ (the deletion failed)
     └──> changed, missing (found out about; until it is carried anew, or found to be whole after all)

    present ──> deleting ──> quarantined ──> deleting ──> deleted
       ^───────────┘            │    ^──────────┘
       ^────────────────────────┘ (restored: the next generation)
    """

    PRESENT = "present"
    DELETING = "deleting"
    """Proof against it was accepted: it proves nothing for any other copy any more."""
    QUARANTINED = "quarantined"
    """It has another name at its endpoint, where nobody looks for it, and is deleted later; it proves nothing."""
    DELETED = "deleted"
    CHANGED = "changed"
    """What stands there is not what was verified: it proves nothing, and is not deleted."""
    MISSING = "missing"
    """Nobody here deleted it, and it is not there."""


LOST = (CopyState.CHANGED, CopyState.MISSING)
"""What stands at the place of such a copy, if anything does, is not what was verified."""


@dataclass(frozen=True, kw_only=True)
class CopyRecord:
    id: int
    scan_id: str
    dataset: str
    """Copies of one dataset of a scan hold the same bytes: ``raw``, ``rec.tiff``, ``rec.zarr``."""
    endpoint: str
    path: RelativePath
    version: str
    """Copies of one dataset hold the same bytes if they are of one version: of the file, or of the job's result."""
    role: Role
    state: CopyState
    generation: int
    """Counts how often it was made again: after a deletion, or as another version."""
    size: int
    files: int
    manifest: tuple[FileEvidence, ...]
    verified_by: str | None
    method: str
    verified_at: float
    delete_after: float | None
    deleted_at: float | None
    deletion: str | None
    """Key of the operation that deletes it: of many copies at once, it is filed under one of their scans. Of a copy in
    quarantine, of the one that brings it back."""
    quarantined_at: float | None
    """Since when it lies in quarantine."""
    quarantine_path: RelativePath | None
    """Where it lies there, or is to lie while its deletion begins. What was made anew at its own place meanwhile is
    another copy; then `path` is this path, too."""
    checked_at: float | None
    """When its bytes were read last, and were what they should be. Its age counts from `verified_at` all the same."""

    @classmethod
    def from_row(cls, row: RowMapping, files: Mapping[str, tuple[FileEvidence, ...]]) -> CopyRecord:
        """`files` has the manifest of that row by its digest."""
        values = dict(row)
        aside = values["quarantine_path"]
        values["quarantine_path"] = None if aside is None else RelativePath(aside)
        values["path"] = RelativePath(values["path"])
        values["role"] = Role(values["role"])
        values["state"] = CopyState(values["state"])
        values["manifest"] = files[values["manifest"]]
        return cls(**values)

    @property
    def evidence_at(self) -> float:
        """When it was seen last that its bytes are what they should be."""
        return max(self.verified_at, self.checked_at or 0.0)

    @property
    def set_aside(self) -> bool:
        """Whether it is in quarantine, or has lost its place to another copy on the way there."""
        return self.quarantined_at is not None or self.path == self.quarantine_path

    @property
    def lies_at(self) -> RelativePath:
        """Where its bytes are."""
        return self.path if self.quarantined_at is None else self.quarantine_path or self.path

    @property
    def goes_with(self) -> RelativePath:
        """What is deleted with it: in quarantine the folder that it has for itself."""
        return self.path if self.quarantined_at is None else self.lies_at.parent or self.lies_at


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A copy whose deletion was proved, the copies that stand for it, and what the proof says."""

    copy: CopyRecord
    witnesses: tuple[CopyRecord, ...] = ()
    evidence: Document = field(default_factory=dict)
    seen: str = ""
    """What a look saw of the copy itself (`transfers.shown`): what stands there later may be something else."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What `Copies.record` writes down of a copy that was just verified."""

    scan_id: str
    dataset: str
    endpoint: str
    path: RelativePath
    role: Role
    manifest: Sequence[FileEvidence]
    method: str
    verified_by: str | None
    version: str = ""
    delete_after: float | None = None
    verified_at: float | None = None
