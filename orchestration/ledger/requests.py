"""Requests of operations, as their rows have them: with long lists apart, which need not be written again each time
that something else of the row is.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, RowMapping

from orchestration.ledger.manifests import INLINE_ROWS, keep_list, read_list
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import Document

_APART = "lists apart"
"""In place of the lists that are kept apart: their digests, by name."""


def shelve(connection: Connection, request: Document) -> Document:
    """Within a transaction of the caller."""
    long = {name: value for name, value in request.items() if isinstance(value, list) and len(value) > INLINE_ROWS}
    if not long:
        return request
    rest = {name: value for name, value in request.items() if name not in long}
    return {**rest, _APART: {name: keep_list(connection, value) for name, value in long.items()}}


def records(connection: Connection, rows: Iterable[RowMapping]) -> list[OperationRecord]:
    """Whole, with the requests as they were asked for."""
    return [OperationRecord.from_row({**row, "request": _whole(connection, row["request"])}) for row in rows]


def _whole(connection: Connection, request: Document) -> Document:
    apart = request.get(_APART)
    if not isinstance(apart, dict):
        return request
    rest = {name: value for name, value in request.items() if name != _APART}
    return rest | {name: read_list(connection, str(digest)) for name, digest in apart.items()}
