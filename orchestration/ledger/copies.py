"""Copies: where the bytes of a scan and of its results are, and how that was proved."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, select, update

from orchestration.errors import DeletionUnproven, UnknownName
from orchestration.ledger import audit, manifests
from orchestration.ledger.database import Database
from orchestration.ledger.holds import standing
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation
from orchestration.ledger.operations import KEYS_AT_ONCE, Operations, batched, expire
from orchestration.ledger.service import Document, Request
from orchestration.ledger.tables import copies, copy_findings
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


class _TakenBack(Exception):
    """Ends a transaction of which nothing is to stay."""


class Copies:
    def __init__(self, database: Database, operations: Operations) -> None:
        self._database = database
        self._operations = operations

    def record(
        self,
        *,
        scan_id: str,
        dataset: str,
        endpoint: str,
        path: RelativePath,
        role: Role,
        manifest: Sequence[FileEvidence],
        method: str,
        verified_by: str | None,
        version: str = "",
        delete_after: float | None = None,
        verified_at: float | None = None,
    ) -> CopyRecord:
        """Write down that a verified copy is there.

        `method` says how it was verified (``globus checksum``, ``sha256 after write``). A second proof of the same copy
        replaces the first; a time of deletion that was already set is kept. One that was deleted before, or is of
        another version, begins a new generation, whose time of deletion is still to be set. One that is being deleted
        stays so: that it was there once is no proof that it will be. One that lies in quarantine, or is on its way
        there and of another version, stays what it is, under its path there.
        """
        one = Verified(
            scan_id=scan_id,
            dataset=dataset,
            endpoint=endpoint,
            path=path,
            role=role,
            manifest=manifest,
            method=method,
            verified_by=verified_by,
            version=version,
            delete_after=delete_after,
            verified_at=verified_at,
        )
        return self.record_all([one])[0]

    def record_all(self, found: Sequence[Verified]) -> Sequence[CopyRecord]:
        """`record` for many, all of them or none."""
        with self._database.write("copies") as connection:
            return [self._record(connection, one) for one in found]

    def _record(self, connection: Connection, one: Verified) -> CopyRecord:
        where = (
            (copies.c.scan_id == one.scan_id)
            & (copies.c.dataset == one.dataset)
            & (copies.c.endpoint == one.endpoint)
            & (copies.c.path == one.path.text)
        )
        values = {
            "version": one.version,
            "role": one.role,
            "state": CopyState.PRESENT,
            "size": sum(entry.size for entry in one.manifest),
            "files": len(one.manifest),
            "verified_by": one.verified_by,
            "method": one.method,
            "verified_at": self._database.now() if one.verified_at is None else one.verified_at,
        }
        values["manifest"] = manifests.keep(connection, one.manifest)
        row = connection.execute(select(copies).where(where)).mappings().one_or_none()
        aside = row is not None and _stays_aside(row, one.version)
        if row is None or aside:
            key = {"scan_id": one.scan_id, "dataset": one.dataset, "endpoint": one.endpoint, "path": one.path.text}
            values["generation"] = 1 if row is None else row["generation"] + 1
            if aside:
                connection.execute(update(copies).where(where).values(path=copies.c.quarantine_path))
            connection.execute(copies.insert().values(**key, **values, delete_after=one.delete_after))
        else:
            again = row["state"] == CopyState.DELETED or row["version"] != one.version
            values["generation"] = row["generation"] + again
            values["deleted_at"] = None
            if again:
                values |= {"deletion": None, "quarantined_at": None, "quarantine_path": None, "checked_at": None}
            if not again and row["state"] == CopyState.DELETING:
                values["state"] = CopyState.DELETING
            if not again and one.verified_by is not None and row["verified_by"] == one.verified_by:
                values["verified_at"] = row["verified_at"]  # the same proof, told again by a run that was repeated
            values["delete_after"] = one.delete_after if again or row["delete_after"] is None else row["delete_after"]
            connection.execute(update(copies).where(where).values(**values))
        stored = connection.execute(select(copies).where(where)).mappings().one()
        return CopyRecord.from_row(stored, {stored["manifest"]: tuple(one.manifest)})

    def begin_deletion(
        self,
        proven: Sequence[Proven],
        operation: Operation[Request],
        *,
        service: str,
        run_id: str | None = None,
        aside: RelativePath | None = None,
    ) -> Mapping[int, DeletionUnproven]:
        """Take the copies out of the number of those that count, in one step with a last look at their witnesses.

        In the same step the operation that deletes them is planned, and their proofs go to the audit: whoever finds
        such a copy later finds the operation, too. Two copies that are each other's witness cannot both be deleted: the
        second deletion finds the first. With `aside` the operation does not delete, but gives the copy that name.

        Returns why copies (by id) may not be deleted after all: they, or their witnesses, were deleted or made anew
        meanwhile, or a hold was placed on their scan. If there are any, nothing has begun.
        """
        try:
            with self._database.write("copies") as connection:
                refused = {
                    each.copy.id: why for each in proven if (why := self._begin(connection, each, operation.key, aside))
                }
                if refused:
                    raise _TakenBack
                for each in proven:
                    self._note(connection, each.copy, audit.Verdict.PROVED, run_id=run_id, evidence=each.evidence)
                self._operations.plan_again(connection, operation, service=service, run_id=run_id)
        except _TakenBack:
            return refused
        return {}

    def _begin(
        self, connection: Connection, proven: Proven, key: str, aside: RelativePath | None
    ) -> DeletionUnproven | None:
        """Why not; None if it has begun. What another operation deletes is left to it until that has ended."""
        copy = proven.copy
        where = f"{copy.endpoint}:{copy.path}"
        for hold in standing(connection, copy.scan_id, now=self._database.now()):
            return hold.refusal(where=where)
        for witness in proven.witnesses:
            as_seen = (copies.c.id == witness.id) & (copies.c.generation == witness.generation)
            as_seen &= copies.c.state == CopyState.PRESENT
            if connection.execute(select(copies.c.id).where(as_seen)).one_or_none() is None:
                return DeletionUnproven(f"the copy at {witness.endpoint} is itself being deleted", where=where)
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        free = (copies.c.state == CopyState.PRESENT) | copies.c.deletion.is_(None) | (copies.c.deletion == key)
        # Set aside by another run meanwhile, it is not what was proved, though it is the same copy.
        aside_as_seen = (
            copies.c.quarantined_at.is_not(None) if copy.quarantined_at else copies.c.quarantined_at.is_(None)
        )
        this &= (copies.c.state != CopyState.DELETED) & free & aside_as_seen
        values = {"state": CopyState.DELETING, "deletion": key}
        if aside is not None:
            values["quarantine_path"] = aside.text
        if connection.execute(update(copies).where(this).values(**values)).rowcount:
            return None
        return DeletionUnproven(
            "it was deleted, or made anew, while its deletion was being proved",
            where=where,
            next_step="nothing: what is there now has a deletion of its own",
        )

    def kept(self, copy: CopyRecord) -> None:
        """Its deletion failed, and that is certain: it is there as before, or in quarantine as before."""
        this = (copies.c.id == copy.id) & (copies.c.state == CopyState.DELETING)
        at_home, aside = copies.c.quarantined_at.is_(None), copies.c.quarantined_at.is_not(None)
        there = {"state": CopyState.PRESENT, "deletion": None, "quarantine_path": None}
        with self._database.write("copies") as connection:
            connection.execute(update(copies).where(this & at_home).values(**there))
            connection.execute(update(copies).where(this & aside).values(state=CopyState.QUARANTINED, deletion=None))

    def deleted(self, copy: CopyRecord, *, run_id: str | None = None) -> None:
        """It is gone, on purpose: what made it may be asked for again."""
        with self._database.write("copies") as connection:
            this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
            gone = {
                "state": CopyState.DELETED,
                "deleted_at": self._database.now(),
                "delete_after": None,
                "deletion": None,
            }
            this &= copies.c.state != CopyState.DELETED
            row = connection.execute(
                update(copies).where(this).values(**gone).returning(copies.c.verified_by)
            ).one_or_none()
            # Nothing if it was written down before, or has been made again since: that one is not gone.
            if row is None:
                return
            self._note(connection, copy, audit.Verdict.DELETED, run_id=run_id)
            if row.verified_by is not None:
                expire(connection, row.verified_by)

    def verified(self, copy: CopyRecord, *, method: str, at: float | None = None) -> CopyRecord:
        """By checksums computed `at` that time it is what it was; one that was changed or missing is there again."""
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        lost = this & copies.c.state.in_([CopyState.CHANGED, CopyState.MISSING])
        values = {"checked_at": self._database.now() if at is None else at, "method": method}
        with self._database.write("copies") as connection:
            connection.execute(update(copies).where(this).values(**values))
            if connection.execute(update(copies).where(lost).values(state=CopyState.PRESENT)).rowcount:
                connection.execute(delete(copy_findings).where(copy_findings.c.copy_id == copy.id))
        return self.get(copy.id)

    def found(self, copy: CopyRecord, state: CopyState, *, why: str = "", by_checksum: bool = False) -> bool:
        """Write down that it was found `changed`, `missing`, or `present` after all; whether that is news.

        Nothing if it was verified anew since `copy` was read: what was found may have been the one before. One whose
        checksums were not what they were is present again only once they are: see `verified`.
        """
        these = [CopyState.PRESENT, CopyState.CHANGED, CopyState.MISSING]
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        this &= (copies.c.verified_at == copy.verified_at) & copies.c.state.in_(these)
        mine = copy_findings.c.copy_id == copy.id
        with self._database.write("copies") as connection:
            before = connection.execute(select(copies.c.state).where(this)).scalar_one_or_none()
            read = select(copy_findings.c.copy_id).where(mine & copy_findings.c.by_checksum)
            read = read.where(copy_findings.c.generation == copy.generation)
            doubted = before == CopyState.CHANGED and connection.execute(read).one_or_none() is not None
            if before is None or before == state or (doubted and not by_checksum):
                return False
            connection.execute(update(copies).where(this).values(state=state))
            connection.execute(delete(copy_findings).where(mine))
            if state is not CopyState.PRESENT:
                told = {"state": state, "why": why, "by_checksum": by_checksum, "found_at": self._database.now()}
                values = {"copy_id": copy.id, "generation": copy.generation, **told}
                connection.execute(copy_findings.insert().values(**values))
            return True

    def schedule(self, copy: CopyRecord, delete_after: float) -> CopyRecord:
        """Set when the copy may go, unless that was set before; the record as it then is."""
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        with self._database.write("copies") as connection:
            unset = this & copies.c.delete_after.is_(None)
            connection.execute(update(copies).where(unset).values(delete_after=delete_after))
        return self.get(copy.id)

    def postpone(self, copy: CopyRecord, delete_after: float) -> CopyRecord:
        """Let it stay longer than was said before; the record as it then is."""
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        with self._database.write("copies") as connection:
            sooner = this & (copies.c.delete_after < delete_after)
            connection.execute(update(copies).where(sooner).values(delete_after=delete_after))
        return self.get(copy.id)

    def get(self, copy_id: int) -> CopyRecord:
        found = self._select(copies.c.id == copy_id)
        if not found:
            raise UnknownName(f"no copy {copy_id} in the ledger")
        return found[0]

    def among(self, ids: Collection[int]) -> Sequence[CopyRecord]:
        """Those of these ids that the ledger has."""
        found: list[CopyRecord] = []
        for some in batched(sorted(ids), KEYS_AT_ONCE):
            found += self._select(copies.c.id.in_(some))
        return found

    def of_deletion(self, key: str) -> Sequence[CopyRecord]:
        """What the operation of that key deletes, and has not deleted as far as is known; or what it brings back."""
        return self._select((copies.c.deletion == key) & copies.c.state.in_(_LEAVING))

    def of_scan(self, scan_id: str) -> Sequence[CopyRecord]:
        return self._select(copies.c.scan_id == scan_id)

    def there(self, endpoint: str, scan_ids: Collection[str]) -> Sequence[CopyRecord]:
        """Those of these scans that an endpoint has."""
        found: list[CopyRecord] = []
        for some in batched(sorted(scan_ids), KEYS_AT_ONCE):
            this = (copies.c.endpoint == endpoint) & (copies.c.state == CopyState.PRESENT)
            found += self._select(this & copies.c.scan_id.in_(some))
        return found

    def at(self, endpoint: str, path: RelativePath) -> Sequence[CopyRecord]:
        """All that the ledger knows at that place, deleted ones too, and those that are in quarantine from there."""
        here = (copies.c.path == path.text) | (copies.c.quarantine_path == path.text)
        return self._select((copies.c.endpoint == endpoint) & here)

    def below(self, endpoint: str, folder: str) -> Sequence[CopyRecord]:
        """All that the ledger knows in a folder there, at any depth, and as that folder; deleted ones too."""
        here = (copies.c.path == folder) | copies.c.path.startswith(f"{folder}/", autoescape=True)
        return self._select((copies.c.endpoint == endpoint) & here)

    def due(self, before: float, *, after: int, limit: int) -> Sequence[CopyRecord]:
        """Copies that are there although they were to go `before` that time; at most so many, of ids above `after`."""
        there = copies.c.state.in_([CopyState.PRESENT, *_LEAVING])
        query = (
            select(copies)
            .where(there & (copies.c.delete_after < before) & (copies.c.id > after))
            .order_by(copies.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return _records(connection, query)

    def _note(
        self,
        connection: Connection,
        copy: CopyRecord,
        verdict: audit.Verdict,
        *,
        run_id: str | None,
        evidence: Document | None = None,
    ) -> None:
        audit.add(connection, copy, verdict, at=self._database.now(), run_id=run_id, evidence=evidence)

    def _select(self, where: object) -> Sequence[CopyRecord]:
        query = select(copies).where(where).order_by(copies.c.id)  # type: ignore[arg-type]
        with self._database.read() as connection:
            return _records(connection, query)


_LEAVING = (CopyState.DELETING, CopyState.QUARANTINED)


def _stays_aside(row: RowMapping, version: str) -> bool:
    """Whether what was found at its place is another copy than this one, whose bytes are in quarantine or on their way
    there, and still known by it.
    """
    leaving = row["state"] in _LEAVING and row["quarantine_path"] is not None
    return leaving and (row["quarantined_at"] is not None or row["version"] != version)


def _records(connection: Connection, query: Select[Any]) -> Sequence[CopyRecord]:
    rows = connection.execute(query).mappings().all()
    files = manifests.read(connection, {row["manifest"] for row in rows})
    return [CopyRecord.from_row(row, files) for row in rows]
