"""Holds: while one stands on a scan, no copy of the scan is deleted, whatever else allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, select, update

from orchestration.errors import DeletionUnproven, InvalidInput, UnknownName
from orchestration.ledger.database import Database
from orchestration.ledger.service import Document
from orchestration.ledger.tables import holds, scans


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
        """``held by ada until 2026-12-24 08:00 UTC: paper under review``"""
        end = "until it is released" if self.until is None else f"until {_clock(self.until)}"
        return f"held by {self.who} {end}: {self.why}"

    def refusal(self, *, where: str) -> DeletionUnproven:
        return DeletionUnproven(
            f"the scan is {self.sentence}", where=where, next_step="wait, or end the hold with `beamline release SCAN`"
        )

    def document(self) -> Document:
        return {
            "why": self.why,
            "who": self.who,
            "placed_at": self.placed_at,
            "until": self.until,
            "released_at": self.released_at,
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
            raise InvalidInput(f"a hold until {_clock(until)} would be over already", next_step="give a later time")
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

    def of_scan(self, scan_id: str) -> Sequence[HoldRecord]:
        """All, oldest first; those that are over, too."""
        with self._database.read() as connection:
            return _of_scan(connection, scan_id)


def standing(connection: Connection, scan_id: str, *, now: float) -> Sequence[HoldRecord]:
    """Within a transaction of the caller."""
    return [hold for hold in _of_scan(connection, scan_id) if hold.stands(now)]


def _of_scan(connection: Connection, scan_id: str) -> Sequence[HoldRecord]:
    query = select(holds).where(holds.c.scan_id == scan_id).order_by(holds.c.id)
    return [HoldRecord(**row) for row in connection.execute(query).mappings()]


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
