"""Copies: what becomes of each, from its first proof to its deletion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, select, update

from orchestration.errors import DeletionUnproven
from orchestration.ledger import audit, manifests
from orchestration.ledger.copy import LOST, CopyRecord, CopyState, Proven, Role, Verified
from orchestration.ledger.copy_queries import LEAVING, CopyQueries
from orchestration.ledger.database import Database
from orchestration.ledger.holds import keeping
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation
from orchestration.ledger.operations import Operations
from orchestration.ledger.plans import expire
from orchestration.ledger.service import Document, Request
from orchestration.ledger.tables import copies, copy_findings
from orchestration.paths import RelativePath


class _TakenBack(Exception):
    """Ends a transaction of which nothing is to stay."""


class Copies(CopyQueries):
    def __init__(self, database: Database, operations: Operations) -> None:
        super().__init__(database)
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
        stays so: that it was there once is no proof that it will be. So does one that was found changed or missing
        after the time of this proof. One that lies in quarantine, or is on its way there and of another version, stays
        what it is, under its path there.
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
            if not again and _told_before(row, one):
                values["verified_at"] = row["verified_at"]
            if not again and (row["state"] == CopyState.DELETING or _found_since(connection, row, values)):
                values["state"] = row["state"]
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

        Raises:
            PolicyRefused: if the operation is not permitted; nothing has begun.
        """
        try:
            with self._operations.together("copies", operation, service=service, run_id=run_id) as planning:
                connection, key = planning.connection, operation.key
                refused = {each.copy.id: why for each in proven if (why := self._begin(connection, each, key, aside))}
                if refused:
                    raise _TakenBack
                for each in proven:
                    self._note(connection, each.copy, audit.Verdict.PROVED, run_id=run_id, evidence=each.evidence)
                planning.plan_again()
        except _TakenBack:
            return refused
        return {}

    def _begin(
        self, connection: Connection, proven: Proven, key: str, aside: RelativePath | None
    ) -> DeletionUnproven | None:
        """Why not; None if it has begun. What another operation deletes is left to it until that has ended."""
        copy = proven.copy
        where = f"{copy.endpoint}:{copy.path}"
        now = self._database.now()
        for hold in keeping(connection, copy, now=now):
            return hold.refusal(copy.scan_id, where=where)
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
        """By checksums of what was read after `at` it is what it was; what was found changed or missing before that is
        there again.
        """
        read_at = self._database.now() if at is None else at
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        lost = this & copies.c.state.in_(LOST) & copies.c.id.not_in(_found_after(copy.id, copy.generation, read_at))
        values = {"checked_at": read_at, "method": method}
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
        these = [CopyState.PRESENT, *LOST]
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

    def schedule_all(self, times: Sequence[tuple[CopyRecord, float]]) -> Sequence[CopyRecord]:
        """Set when each copy may go, unless that was set before; the records as they then are."""
        with self._database.write("copies") as connection:
            for copy, delete_after in times:
                this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
                unset = this & copies.c.delete_after.is_(None)
                connection.execute(update(copies).where(unset).values(delete_after=delete_after))
        return self.among({copy.id for copy, _ in times})

    def postpone(self, copy: CopyRecord, delete_after: float) -> CopyRecord:
        """Let it stay longer than was said before; the record as it then is."""
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        with self._database.write("copies") as connection:
            sooner = this & (copies.c.delete_after < delete_after)
            connection.execute(update(copies).where(sooner).values(delete_after=delete_after))
        return self.get(copy.id)

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


def _told_before(row: RowMapping, one: Verified) -> bool:
    """Whether a run that was repeated tells a proof again; the next attempt of the same operation is another proof."""
    same = one.verified_by is not None and row["verified_by"] == one.verified_by
    return same and (one.verified_at is None or one.verified_at <= row["verified_at"])


def _found_since(connection: Connection, row: RowMapping, values: Mapping[str, Any]) -> bool:
    """Whether a copy was found changed or missing after it was verified as these values say."""
    since = _found_after(row["id"], row["generation"], values["verified_at"])
    return row["state"] in LOST and connection.execute(since).first() is not None


def _found_after(copy_id: int, generation: int, at: float) -> Select[tuple[int]]:
    this = (copy_findings.c.copy_id == copy_id) & (copy_findings.c.generation == generation)
    return select(copy_findings.c.copy_id).where(this & (copy_findings.c.found_at > at))


def _stays_aside(row: RowMapping, version: str) -> bool:
    """Whether what was found at its place is another copy than this one, whose bytes are in quarantine or on their way
    there, and still known by it.
    """
    leaving = row["state"] in LEAVING and row["quarantine_path"] is not None
    return leaving and (row["quarantined_at"] is not None or row["version"] != version)
