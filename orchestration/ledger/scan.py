"""Scans: one measurement of a beamline, known by the path of its file."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, func, select, update

from orchestration.errors import UnknownName
from orchestration.ledger.database import Database
from orchestration.ledger.service import Document
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import scans
from orchestration.paths import RelativePath

MIN_ID_CHARACTERS = 4
"""So much of an id must be given; less would find a scan that nobody meant."""

_NAMESPACE = uuid.UUID("6f1c8c1e-6d0b-5b8e-9a43-0d8f3d1b8320")


@dataclass(frozen=True, kw_only=True)
class Scan:
    id: str
    beamline: str
    path: RelativePath
    """Below the root of the beamline's acquisition endpoint."""
    fingerprint: str
    """Tells versions of the file apart (size and time of change at the source); empty while not known."""
    export_controlled: bool
    facts: Document
    registered_at: float

    @classmethod
    def from_row(cls, row: RowMapping) -> Scan:
        return cls(**{**row, "path": RelativePath(row["path"])})


class Scans:
    def __init__(self, database: Database) -> None:
        self._database = database

    def register(
        self, *, beamline: str, path: RelativePath, export_controlled: bool = False, fingerprint: str = ""
    ) -> Scan:
        """The scan at `path`, made known if it is new.

        Export control is never taken back here: a scan once flagged stays flagged, whoever starts the next flow; and so
        does all that is in a flagged folder, known before or after that.
        """
        scan_id = scan_identity(beamline, path)
        with self._database.write("scans") as connection:
            row = connection.execute(select(scans).where(scans.c.id == scan_id)).mappings().one_or_none()
            known = row is not None and row["export_controlled"]
            flag = export_controlled or known or _in_flagged(connection, beamline, path)
            if row is None:
                values: dict[str, object] = {
                    "id": scan_id,
                    "beamline": beamline,
                    "path": path.text,
                    "fingerprint": fingerprint,
                    "export_controlled": flag,
                    "facts": {},
                    "registered_at": self._database.now(),
                }
                connection.execute(scans.insert().values(**values))
            else:
                changes = {"fingerprint": fingerprint or row["fingerprint"], "export_controlled": flag}
                if any(row[name] != value for name, value in changes.items()):
                    connection.execute(update(scans).where(scans.c.id == scan_id).values(**changes))
            if flag and not known:
                inside = (scans.c.beamline == beamline) & scans.c.path.startswith(f"{path.text}/", autoescape=True)
                connection.execute(update(scans).where(inside).values(export_controlled=True))
            found = connection.execute(select(scans).where(scans.c.id == scan_id)).mappings().one()
        return Scan.from_row(found)

    def learn(self, scan_id: str, facts: Document) -> None:
        """Add what became known about a scan (proposal, sample, number of projections)."""
        with self._database.write("scans") as connection:
            known = connection.execute(select(scans.c.facts).where(scans.c.id == scan_id)).scalar_one_or_none()
            if known is None:
                raise _unknown(scan_id)
            connection.execute(update(scans).where(scans.c.id == scan_id).values(facts={**known, **facts}))

    def get(self, scan_id: str) -> Scan:
        with self._database.read() as connection:
            row = connection.execute(select(scans).where(scans.c.id == scan_id)).mappings().one_or_none()
        if row is None:
            raise _unknown(scan_id)
        return Scan.from_row(row)

    def among(self, ids: Collection[str]) -> Mapping[str, Scan]:
        """Those of these ids that the ledger has, by id."""
        with self._database.read() as connection:
            return read_scans(connection, ids)

    def find(self, text: str) -> Scan:
        """By id, path, file name or its stem, by the beginning of an id, or by a part of the file name.

        Where names fit several, the newest is meant.

        Raises:
            UnknownName: if none fits, or a beginning of an id fits several.
        """
        path, start = scans.c.path, max(len(text), MIN_ID_CHARACTERS)
        begins = func.substr(scans.c.id, 1, start) == text.lower()
        with self._database.read() as connection:
            query = select(scans).where((path == text) | path.contains(text, autoescape=True) | begins)
            rows = connection.execute(query.order_by(scans.c.registered_at.desc())).mappings()
            known = [Scan.from_row(row) for row in rows] if text else []
        named = [scan for scan in known if text in {scan.id, scan.path.text}]
        named = named or [scan for scan in known if text in {scan.path.name, scan.path.stem}]
        if named:
            return named[0]
        by_id = [scan for scan in known if len(text) >= MIN_ID_CHARACTERS and scan.id.startswith(text.lower())]
        if len(by_id) > 1:
            raise UnknownName(f"{text!r} is the beginning of {len(by_id)} scans", next_step="give more of the id")
        found = by_id or [scan for scan in known if text in scan.path.name]
        if not found:
            raise _unknown(text)
        return found[0]

    def registered(self, beamline: str, *, after: float, before: float) -> Sequence[Scan]:
        """Those that became known between two times, in that order."""
        then = (scans.c.registered_at > after) & (scans.c.registered_at <= before)
        query = select(scans).where(then & (scans.c.beamline == beamline)).order_by(scans.c.registered_at)
        with self._database.read() as connection:
            return [Scan.from_row(row) for row in connection.execute(query).mappings()]

    def latest(self, *, limit: int = 50, beamline: str | None = None) -> Sequence[Scan]:
        query = select(scans).order_by(scans.c.registered_at.desc()).limit(limit)
        if beamline:
            query = query.where(scans.c.beamline == beamline)
        with self._database.read() as connection:
            return [Scan.from_row(row) for row in connection.execute(query).mappings()]


def read_scans(connection: Connection, ids: Collection[str]) -> Mapping[str, Scan]:
    """Within a transaction of the caller."""
    wanted = sorted(ids)
    found: dict[str, Scan] = {}
    for some in batched(wanted, KEYS_AT_ONCE):
        query = select(scans).where(scans.c.id.in_(some))
        found |= {row["id"]: Scan.from_row(row) for row in connection.execute(query).mappings()}
    return found


def scan_identity(beamline: str, path: RelativePath) -> str:
    """The same wherever it is computed, so that two programs that see a new file at once mean the same scan."""
    return str(uuid.uuid5(_NAMESPACE, f"{beamline}\n{path.text}"))


def _in_flagged(connection: Connection, beamline: str, path: RelativePath) -> bool:
    """Whether a folder that it lies in is under export control."""
    above = [scan_identity(beamline, RelativePath(str(folder))) for folder in path.pure.parents if str(folder) != "."]
    query = select(scans.c.id).where(scans.c.id.in_(above), scans.c.export_controlled)
    return connection.execute(query.limit(1)).first() is not None


def _unknown(name: str) -> UnknownName:
    return UnknownName(f"no scan {name!r} in the ledger", next_step="look it up with `beamline scans`")
