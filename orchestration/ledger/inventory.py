"""How far the inventory of each endpoint is, what it found of copies, and which files nobody knows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, case, delete, func, select, update

from orchestration.ledger import manifests
from orchestration.ledger.copy import RAW, CopyState
from orchestration.ledger.database import Database
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import checksum_attempts, copies, copy_findings, inventory_rounds, unknown_folders

LOOKED_AT = (CopyState.PRESENT, CopyState.CHANGED, CopyState.MISSING)
"""The states of copies that should be there under their own names."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One inventory of an endpoint: all copies with an id up to `after_id` were looked at since it began."""

    endpoint: str
    began_at: float
    after_id: int
    looked: int
    ended_at: float | None
    after_folder: str
    """The last folder that was compared with the ledger; of those that hold scans, in the order of their names."""
    folders_began_at: float | None
    folders_ended_at: float | None


@dataclass(frozen=True, kw_only=True)
class FoundCopy:
    """A copy that is not what, or where, it was verified; times are seconds since the epoch."""

    copy_id: int
    scan_id: str
    dataset: str
    endpoint: str
    path: str
    size: int
    state: CopyState
    why: str
    by_checksum: bool
    """Its bytes were read; no look at its size can tell that it is whole again."""
    found_at: float


@dataclass(frozen=True, kw_only=True)
class UnknownFolder:
    """Files directly in a folder that no copy accounts for; `size` is their sum in bytes."""

    endpoint: str
    folder: str
    files: int
    size: int
    oldest: float
    newest: float
    example: str
    seen_at: float


class Inventory:
    def __init__(self, database: Database) -> None:
        self._database = database

    # ----- rounds ---------------------------------------------------------------------------------------------------

    def round_of(self, endpoint: str) -> Round | None:
        """The one that goes on, or else the last."""
        with self._database.read() as connection:
            row = connection.execute(_round(endpoint)).mappings().one_or_none()
        return None if row is None else Round(**row)

    def begin(self, endpoint: str) -> Round:
        """A new round of the copies."""
        fresh = {"began_at": self._database.now(), "after_id": 0, "looked": 0, "ended_at": None}
        return self._put(endpoint, fresh)

    def looked(self, found: Round, *, after_id: int, number: int) -> None:
        """All copies up to that one were looked at; of two passes at once the one that is farther counts."""
        this = (inventory_rounds.c.endpoint == found.endpoint) & (inventory_rounds.c.began_at == found.began_at)
        behind = this & (inventory_rounds.c.after_id < after_id)
        values = {"after_id": after_id, "looked": inventory_rounds.c.looked + number}
        with self._database.write("inventory") as connection:
            connection.execute(update(inventory_rounds).where(behind).values(**values))

    def end(self, found: Round) -> None:
        this = (inventory_rounds.c.endpoint == found.endpoint) & (inventory_rounds.c.began_at == found.began_at)
        with self._database.write("inventory") as connection:
            connection.execute(update(inventory_rounds).where(this).values(ended_at=self._database.now()))

    def page(self, endpoint: str, *, after_id: int, limit: int) -> Sequence[int]:
        """The ids of the next copies that should be there."""
        there = (copies.c.endpoint == endpoint) & copies.c.state.in_(LOOKED_AT) & (copies.c.id > after_id)
        query = select(copies.c.id).where(there).order_by(copies.c.id).limit(limit)
        with self._database.read() as connection:
            return connection.execute(query).scalars().all()

    def number(self, endpoint: str | None = None) -> int:
        """Of the copies that should be there; without `endpoint`, anywhere."""
        there = copies.c.state.in_(LOOKED_AT)
        here = there if endpoint is None else there & (copies.c.endpoint == endpoint)
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).where(here)).scalar_one())

    def endpoints(self) -> Sequence[str]:
        """Those at which copies should be."""
        query = select(copies.c.endpoint).where(copies.c.state.in_(LOOKED_AT)).distinct()
        with self._database.read() as connection:
            return sorted(connection.execute(query).scalars())

    def places_of(self, scan_ids: Collection[str]) -> Mapping[str, frozenset[str]]:
        """The endpoints at which each scan has copies of its raw data, or had them."""
        found: dict[str, set[str]] = {}
        with self._database.read() as connection:
            for some in batched(sorted(scan_ids), KEYS_AT_ONCE):
                raw = copies.c.scan_id.in_(some) & (copies.c.dataset == RAW)
                for row in connection.execute(select(copies.c.scan_id, copies.c.endpoint).where(raw)):
                    found.setdefault(row.scan_id, set()).add(row.endpoint)
        return {scan_id: frozenset(places) for scan_id, places in found.items()}

    # ----- what was found -------------------------------------------------------------------------------------------

    def findings(self, *, endpoint: str | None = None, limit: int | None = None) -> Sequence[FoundCopy]:
        """The copies that are changed or missing, those that were found last first."""
        lost: list[ColumnElement[bool]] = [copies.c.state.in_([CopyState.CHANGED, CopyState.MISSING])]
        if endpoint is not None:
            lost.append(copies.c.endpoint == endpoint)
        same = (copy_findings.c.copy_id == copies.c.id) & (copy_findings.c.generation == copies.c.generation)
        columns = [copies.c[name] for name in ("scan_id", "dataset", "endpoint", "path", "size", "state")]
        told = [copy_findings.c.why, copy_findings.c.by_checksum, copy_findings.c.found_at]
        query = select(copies.c.id.label("copy_id"), *columns, *told).select_from(copies.outerjoin(copy_findings, same))
        query = query.where(*lost).order_by(copy_findings.c.found_at.desc(), copies.c.id).limit(limit)
        with self._database.read() as connection:
            return [_found(row) for row in connection.execute(query).mappings()]

    def counts(self) -> Mapping[str, int]:
        """How many copies there are in each state."""
        query = select(copies.c.state, func.count()).group_by(copies.c.state)
        with self._database.read() as connection:
            return {str(state): int(number) for state, number in connection.execute(query)}

    # ----- checksums ------------------------------------------------------------------------------------------------

    def oldest(self, endpoints: Collection[str], *, limit: int, tried_before: float) -> Sequence[int]:
        """The ids of the copies at these endpoints whose evidence is oldest, without those tried since in vain."""
        tried = select(checksum_attempts.c.copy_id).where(checksum_attempts.c.at >= tried_before)
        there = (copies.c.state == CopyState.PRESENT) & copies.c.endpoint.in_(sorted(endpoints))
        evidence = case((copies.c.checked_at > copies.c.verified_at, copies.c.checked_at), else_=copies.c.verified_at)
        query = select(copies.c.id).where(there & copies.c.id.not_in(tried)).order_by(evidence, copies.c.id)
        with self._database.read() as connection:
            return connection.execute(query.limit(limit)).scalars().all()

    def doubted(self, endpoints: Collection[str], *, tried_before: float, limit: int) -> Sequence[int]:
        """The ids of copies at these endpoints whose checksums were not what they were, without those tried since."""
        tried = select(checksum_attempts.c.copy_id).where(checksum_attempts.c.at >= tried_before)
        lost = (copies.c.state == CopyState.CHANGED) & copies.c.endpoint.in_(sorted(endpoints))
        read = (copy_findings.c.generation == copies.c.generation) & copy_findings.c.by_checksum
        query = select(copies.c.id).join(copy_findings, copy_findings.c.copy_id == copies.c.id)
        query = query.where(lost & read & copies.c.id.not_in(tried)).order_by(copy_findings.c.found_at).limit(limit)
        with self._database.read() as connection:
            return connection.execute(query).scalars().all()

    def drawn(self, endpoints: Collection[str]) -> Sequence[int]:
        """The ids of the copies at these endpoints that were drawn to be read again, and have not been so far."""
        here = copies.c.endpoint.in_(sorted(endpoints)) & checksum_attempts.c.why.is_(None)
        query = select(checksum_attempts.c.copy_id).join(copies, copies.c.id == checksum_attempts.c.copy_id).where(here)
        with self._database.read() as connection:
            return connection.execute(query.order_by(checksum_attempts.c.copy_id)).scalars().all()

    def draw(self, ids: Collection[int]) -> None:
        """They are to be read again, by this run or by whoever carries on."""
        rows = [{"copy_id": each, "at": self._database.now(), "why": None} for each in sorted(ids)]
        with self._database.write("inventory") as connection:
            connection.execute(delete(checksum_attempts).where(checksum_attempts.c.copy_id.in_(sorted(ids))))
            if rows:
                connection.execute(checksum_attempts.insert(), rows)

    def tried(self, copy_id: int, why: str = "") -> None:
        """It was read; or could not be, and is not tried again for a while."""
        this = checksum_attempts.c.copy_id == copy_id
        with self._database.write("inventory") as connection:
            connection.execute(delete(checksum_attempts).where(this))
            if why:
                connection.execute(checksum_attempts.insert().values(copy_id=copy_id, at=self._database.now(), why=why))

    # ----- files that nobody knows ----------------------------------------------------------------------------------

    def begin_folders(self, endpoint: str) -> Round:
        """A new round of the folders."""
        now = self._database.now()
        return self._put(endpoint, {"after_folder": "", "folders_began_at": now, "folders_ended_at": None})

    def compared(self, found: Round, folder: str, unknown: UnknownFolder | None) -> None:
        """A folder was compared with the ledger; what was known of it before is replaced."""
        where = (unknown_folders.c.endpoint == found.endpoint) & (unknown_folders.c.folder == folder)
        this = inventory_rounds.c.endpoint == found.endpoint
        with self._database.write("inventory") as connection:
            connection.execute(delete(unknown_folders).where(where))
            if unknown is not None:
                values = {name: getattr(unknown, name) for name in UnknownFolder.__dataclass_fields__}
                connection.execute(unknown_folders.insert().values(**values))
            connection.execute(update(inventory_rounds).where(this).values(after_folder=folder))

    def end_folders(self, found: Round) -> None:
        """Folders that were not seen in this round are gone."""
        where = (unknown_folders.c.endpoint == found.endpoint) & (unknown_folders.c.seen_at < found.folders_began_at)
        this = inventory_rounds.c.endpoint == found.endpoint
        with self._database.write("inventory") as connection:
            connection.execute(delete(unknown_folders).where(where))
            connection.execute(update(inventory_rounds).where(this).values(folders_ended_at=self._database.now()))

    def unknown(self, *, endpoint: str | None = None) -> Sequence[UnknownFolder]:
        """The folders with files that the ledger does not know, the largest first."""
        query = select(unknown_folders).order_by(unknown_folders.c.size.desc(), unknown_folders.c.folder)
        if endpoint is not None:
            query = query.where(unknown_folders.c.endpoint == endpoint)
        with self._database.read() as connection:
            return [UnknownFolder(**row) for row in connection.execute(query).mappings()]

    def accounted_for(self, endpoint: str, paths: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Those of these paths at which a copy should be, with the paths below it of all its files."""
        found: dict[str, frozenset[str]] = {}
        there = (copies.c.endpoint == endpoint) & (copies.c.state != CopyState.DELETED)
        with self._database.read() as connection:
            for some in batched(sorted(paths), KEYS_AT_ONCE):
                query = select(copies.c.path, copies.c.manifest).where(there & copies.c.path.in_(some))
                rows = connection.execute(query).all()
                files = manifests.read(connection, {row.manifest for row in rows})
                for row in rows:
                    known = found.get(row.path, frozenset())
                    found[row.path] = known | {entry.path for entry in files[row.manifest]}
        return found

    def _put(self, endpoint: str, values: dict[str, Any]) -> Round:
        with self._database.write("inventory") as connection:
            this = inventory_rounds.c.endpoint == endpoint
            if not connection.execute(update(inventory_rounds).where(this).values(**values)).rowcount:
                began = {"began_at": self._database.now(), "after_id": 0, "looked": 0, "after_folder": ""}
                connection.execute(inventory_rounds.insert().values(endpoint=endpoint, **{**began, **values}))
            return Round(**connection.execute(_round(endpoint)).mappings().one())


def _round(endpoint: str) -> Any:
    return select(inventory_rounds).where(inventory_rounds.c.endpoint == endpoint)


def _found(row: RowMapping) -> FoundCopy:
    told = {"why": row["why"] or "", "by_checksum": bool(row["by_checksum"]), "found_at": row["found_at"] or 0.0}
    return FoundCopy(**{**row, **told, "state": CopyState(row["state"])})
