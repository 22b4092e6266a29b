"""Holds: while one stands on a scan, no copy of the scan is deleted, whatever else allows it.

Nor is what shares files with one: a folder that it lies in, or what lies in it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from orchestration.errors import DeletionUnproven, InvalidInput, UnknownName
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.database import Database
from orchestration.ledger.service import Document
from orchestration.ledger.tables import copies, holds, scans
from orchestration.times import clock, iso

_NOT_THERE = (CopyState.DELETED, CopyState.QUARANTINED)
"""Copies in these states have no files under their paths. What is missing may come back, or be in quarantine with the
folder that it lies in.
"""


@dataclass(frozen=True, kw_only=True)
class HoldRecord:
    """Times are seconds since the epoch; a hold without `until` stands until somebody releases it."""

    id: int
    scan_id: str
    why: str
    who: str
    placed_at: float
    until: float | None
    released_at: float | None
    released_by: str | None

    def stands(self, now: float) -> bool:
        return self.released_at is None and (self.until is None or self.until > now)

    @property
    def sentence(self) -> str:
        """``held by ada until 2026-12-24 08:00:00 PST: paper under review``"""
        end = "until it is released" if self.until is None else f"until {clock(self.until)}"
        return f"held by {self.who} {end}: {self.why}"

    def against(self, scan_id: str) -> str:
        """Why it keeps a copy of that scan."""
        whose = "the scan" if scan_id == self.scan_id else f"scan {self.scan_id}, of which it has files,"
        return f"{whose} is {self.sentence}"

    def refusal(self, scan_id: str, *, where: str) -> DeletionUnproven:
        """Of the deletion of a copy of that scan."""
        release = f"wait, or end the hold with `beamline release {self.scan_id}`"
        return DeletionUnproven(self.against(scan_id), where=where, next_step=release)

    def document(self) -> Document:
        return {
            "why": self.why,
            "who": self.who,
            "placed_at": iso(self.placed_at),
            "until": iso(self.until),
            "released_at": iso(self.released_at),
            "released_by": self.released_by,
        }


class Holds:
    """Holds are placed and released; none is ever removed from the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def place(self, scan_id: str, *, why: str, who: str, until: float | None = None) -> HoldRecord:
        """Keep all copies of the scan, also those that are still to be made.

        Raises:
            InvalidInput: if no reason is given, or `until` is over already.
            UnknownName: if there is no such scan.
        """
        now = self._database.now()
        if not why.strip():
            raise InvalidInput("a hold without a reason was asked for", next_step="say why the data is to be kept")
        if until is not None and until <= now:
            raise InvalidInput(f"a hold until {clock(until)} would be over already", next_step="give a later time")
        values = {"scan_id": scan_id, "why": why.strip(), "who": who, "placed_at": now, "until": until}
        with self._database.write("holds") as connection:
            if connection.execute(select(scans.c.id).where(scans.c.id == scan_id)).one_or_none() is None:
                raise UnknownName(f"no scan {scan_id} in the ledger")
            row = connection.execute(holds.insert().values(**values).returning(holds)).mappings().one()
        return HoldRecord(**row)

    def release(self, scan_id: str, *, who: str) -> Sequence[HoldRecord]:
        """End all holds that stand on the scan; those that did."""
        now = self._database.now()
        with self._database.write("holds") as connection:
            found = standing(connection, scan_id, now=now)
            for hold in found:
                this = update(holds).where(holds.c.id == hold.id)
                connection.execute(this.values(released_at=now, released_by=who))
        return found

    def standing(self, scan_id: str) -> Sequence[HoldRecord]:
        """Those that keep the copies of the scan now."""
        with self._database.read() as connection:
            return standing(connection, scan_id, now=self._database.now())

    def keeping(self, copy: CopyRecord) -> Sequence[HoldRecord]:
        """Those that keep a copy."""
        with self._database.read() as connection:
            return keeping(connection, copy, now=self._database.now())

    def of_scan(self, scan_id: str) -> Sequence[HoldRecord]:
        """All, oldest first; those that are over, too."""
        with self._database.read() as connection:
            return _of_scan(connection, scan_id)


def standing(connection: Connection, scan_id: str, *, now: float) -> Sequence[HoldRecord]:
    """Within a transaction of the caller."""
    return [hold for hold in _of_scan(connection, scan_id) if hold.stands(now)]


def keeping(connection: Connection, copy: CopyRecord, *, now: float) -> Sequence[HoldRecord]:
    """Those on the scan of a copy, and those on scans of which it has files: others that lie where it does, or did
    before it was set aside. Within a transaction.
    """
    there = (copies.c.endpoint == copy.endpoint) & copies.c.state.not_in(_NOT_THERE)
    query = select(holds, copies.c.path).join(copies, copies.c.scan_id == holds.c.scan_id)
    query = query.where(there & holds.c.released_at.is_(None) & (holds.c.scan_id != copy.scan_id)).order_by(holds.c.id)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    places = {copy.goes_with.text, copy.path.text}
    shared = [HoldRecord(**row) for row in rows if _overlap(row.pop("path"), places)]
    return [*standing(connection, copy.scan_id, now=now), *(hold for hold in shared if hold.stands(now))]


def _overlap(one: str, others: Collection[str]) -> bool:
    """Whether it is one of the others, or lies in one, or has one in it."""
    return any(f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/") for other in others)


def _of_scan(connection: Connection, scan_id: str) -> Sequence[HoldRecord]:
    query = select(holds).where(holds.c.scan_id == scan_id).order_by(holds.c.id)
    return [HoldRecord(**row) for row in connection.execute(query).mappings()]
