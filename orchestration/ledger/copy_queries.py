"""What the ledger knows of copies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from orchestration.errors import UnknownName
from orchestration.ledger import manifests
from orchestration.ledger.copy import LOST, CopyRecord, CopyState
from orchestration.ledger.database import Database
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import copies
from orchestration.paths import RelativePath

LEAVING = (CopyState.DELETING, CopyState.QUARANTINED)


class CopyQueries:
    """Reads the rows that `Copies` writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        return self._select((copies.c.deletion == key) & copies.c.state.in_(LEAVING))

    def of_scan(self, scan_id: str) -> Sequence[CopyRecord]:
        return self._select(copies.c.scan_id == scan_id)

    def there(self, endpoint: str, scan_ids: Collection[str]) -> Sequence[CopyRecord]:
        """Those of these scans that an endpoint has."""
        return self._of_scans(endpoint, scan_ids, (CopyState.PRESENT,))

    def lost(self, endpoint: str, scan_ids: Collection[str]) -> Sequence[CopyRecord]:
        """Those of these scans that were found changed or missing at an endpoint."""
        return self._of_scans(endpoint, scan_ids, LOST)

    def _of_scans(
        self, endpoint: str, scan_ids: Collection[str], states: Collection[CopyState]
    ) -> Sequence[CopyRecord]:
        found: list[CopyRecord] = []
        for some in batched(sorted(scan_ids), KEYS_AT_ONCE):
            this = (copies.c.endpoint == endpoint) & copies.c.state.in_(states)
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
        there = copies.c.state.in_([CopyState.PRESENT, *LEAVING])
        query = (
            select(copies)
            .where(there & (copies.c.delete_after < before) & (copies.c.id > after))
            .order_by(copies.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return _records(connection, query)

    def _select(self, where: object) -> Sequence[CopyRecord]:
        query = select(copies).where(where).order_by(copies.c.id)  # type: ignore[arg-type]
        with self._database.read() as connection:
            return _records(connection, query)


def _records(connection: Connection, query: Select[Any]) -> Sequence[CopyRecord]:
    rows = connection.execute(query).mappings().all()
    files = manifests.read(connection, {row["manifest"] for row in rows})
    return [CopyRecord.from_row(row, files) for row in rows]
