"""Manifests: the files of a copy, and the evidence for each of them.

They lie apart from the rows of the copies, each once however many copies share it, so that those who ask which copies
there are need not read which files these have: a scan may have 100,000.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from orchestration.errors import LedgerError
from orchestration.ledger.database import Database
from orchestration.ledger.service import Document, Json
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import manifests

COMPARED = "compared"
"""In place of a checksum's algorithm: a service compared the file with its source, in the task named behind it."""

INLINE_ROWS = 200
"""A list of files that is no longer than this stays in the evidence of its operation."""

_FAST = 1
"""Checksums do not get shorter, whatever the effort."""

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEvidence:
    """One file of a copy: its path below the copy's own path (empty for a copy that is one file), bytes, checksum."""

    path: str
    size: int
    checksum: str | None = None
    """``sha256:...``, ``md5:...``, ``compared:<task>``; None if only the size is known."""


class Manifests:
    """Lists of files as services tell them, for the evidence of operations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def shelve(self, evidence: Document) -> Document:
        """The evidence with the digest of its list of files in place of a list that is long."""
        listed = evidence.get("manifest")
        if not isinstance(listed, list) or len(listed) <= INLINE_ROWS:
            return evidence
        with self._database.write("manifests") as connection:
            return {**evidence, "manifest": _keep(connection, _packed(listed))}

    def listed(self, evidence: Document) -> Iterator[Mapping[str, Json]]:
        """The files in the evidence of an operation, wherever the list is; none if there is no list."""
        listed = evidence.get("manifest") or []
        if isinstance(listed, str):
            with self._database.read() as connection:
                (text,) = _texts(connection, [listed]).values()
            yield from (row for row in _rows(text) if isinstance(row, dict))
        elif isinstance(listed, list):
            yield from (row for row in listed if isinstance(row, dict))
        else:
            raise LedgerError(f"this is no list of files: {str(listed)[:80]}", where="evidence of an operation")


def keep(connection: Connection, manifest: Iterable[FileEvidence]) -> str:
    """Store it, unless it is there; its digest. Within a transaction of the caller."""
    return _keep(connection, _packed([entry.path, entry.size, entry.checksum] for entry in manifest))


def keep_list(connection: Connection, rows: Sequence[Json]) -> str:
    """Any list, kept as a manifest is; its digest. Within a transaction of the caller."""
    return _keep(connection, _packed(rows))


def read_list(connection: Connection, digest: str) -> list[Json]:
    """Raises LedgerError if it is missing, or is not what its digest says."""
    return list(_rows(_texts(connection, [digest])[digest]))


def read(connection: Connection, digests: Collection[str]) -> Mapping[str, tuple[FileEvidence, ...]]:
    """By digest; each is made once, and shared by all copies that have it.

    Raises:
        LedgerError: if one of them is missing, or is not what its digest says.
    """
    return {digest: tuple(map(_evidence, _rows(text))) for digest, text in _texts(connection, digests).items()}


def _evidence(row: Any) -> FileEvidence:
    path, size, checksum = row
    return FileEvidence(path=path, size=size, checksum=checksum)


@dataclass(frozen=True)
class _Packed:
    digest: str
    body: bytes


def _packed(rows: Iterable[Json]) -> _Packed:
    """The JSON of a list, a part at a time: the text of a long one is never whole in memory."""
    hasher, press = hashlib.sha256(), zlib.compressobj(_FAST)
    body = bytearray()
    encode = json.JSONEncoder(separators=(",", ":")).encode
    remaining, before = iter(rows), "["
    while some := list(islice(remaining, _ROWS_AT_ONCE)):
        part = f"{before}{encode(some)[1:-1]}".encode()
        hasher.update(part)
        body += press.compress(part)
        before = ","
    end = b"]" if before == "," else b"[]"
    hasher.update(end)
    body += press.compress(end) + press.flush()
    return _Packed(hasher.hexdigest(), bytes(body))


def _keep(connection: Connection, packed: _Packed) -> str:
    there = select(manifests.c.digest).where(manifests.c.digest == packed.digest)
    if connection.execute(there).one_or_none() is None:
        connection.execute(manifests.insert().values(digest=packed.digest, body=packed.body))
    return packed.digest


def _texts(connection: Connection, digests: Collection[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    wanted = sorted(set(digests))
    for some in batched(wanted, KEYS_AT_ONCE):
        for row in connection.execute(select(manifests).where(manifests.c.digest.in_(some))):
            found[row.digest] = _checked(row.digest, row.body)
    if missing := [digest for digest in wanted if digest not in found]:
        raise LedgerError(
            f"{len(missing)} lists of files are not there",
            where=f"table manifests, {missing[0]}",
            next_step="restore the ledger from a backup: without them no copy proves anything",
        )
    return found


def _rows(text: str) -> Iterator[Json]:
    """Of a list as `_packed` writes it, one at a time: a long one is never whole in memory but as its text."""
    place = 1
    decode = json.JSONDecoder().raw_decode
    while text[place] != "]":
        row, place = decode(text, place)
        yield row
        place += text[place] == ","


def _checked(digest: str, body: bytes) -> str:
    try:
        plain = zlib.decompress(body)
    except zlib.error:
        plain = b""
    if hashlib.sha256(plain).hexdigest() != digest:
        raise LedgerError(
            "a list of files is damaged",
            where=f"table manifests, {digest}",
            next_step="restore the ledger from a backup: without it its copies prove nothing",
        )
    return plain.decode()
