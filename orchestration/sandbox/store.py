"""What a facility remembers across restarts: documents by kind and key, in the order they came."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import cast

from orchestration.ledger.service import Document

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (kind, key)
)
"""


class Store:
    """Documents in one SQLite file; every method is safe from any thread and durable when it returns.

    Durable against the death of this process, not against a power cut: a sandbox need not wait for the disk.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(_SCHEMA)

    def put(self, kind: str, key: str, document: Document) -> None:
        """Insert, or replace in place."""
        with self._lock:
            self._connection.execute(
                "INSERT INTO documents (kind, key, body) VALUES (?, ?, ?) "
                "ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                (kind, key, json.dumps(document)),
            )

    def add(self, kind: str, key: str, document: Document) -> bool:
        """Insert; False if the key is there already."""
        with self._lock:
            cursor = self._connection.execute(
                "INSERT INTO documents (kind, key, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (kind, key, json.dumps(document)),
            )
            return cursor.rowcount == 1

    def get(self, kind: str, key: str) -> Document | None:
        with self._lock:
            row = self._connection.execute(
                "SELECT body FROM documents WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return None if row is None else cast(Document, json.loads(row[0]))

    def every(self, kind: str) -> list[tuple[str, Document]]:
        """All of a kind as (key, document), oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT key, body FROM documents WHERE kind = ? ORDER BY number", (kind,)
            ).fetchall()
        return [(key, cast(Document, json.loads(body))) for key, body in rows]

    def remove(self, kind: str, key: str) -> bool:
        with self._lock:
            cursor = self._connection.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))
            return cursor.rowcount == 1

    def clear(self, kind: str) -> int:
        """Remove all of a kind; returns how many there were."""
        with self._lock:
            return self._connection.execute("DELETE FROM documents WHERE kind = ?", (kind,)).rowcount

    def clear_all(self) -> None:
        with self._lock:
            self._connection.execute("DELETE FROM documents")

    def close(self) -> None:
        with self._lock:
            self._connection.close()
