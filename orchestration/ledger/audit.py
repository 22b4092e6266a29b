"""What was decided about each deletion, and what was not permitted: when, and on which evidence. Lines are added and
never changed.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, select

from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.database import Database
from orchestration.ledger.operation import Operation
from orchestration.ledger.service import Document, Request
from orchestration.ledger.tables import audit


class Verdict(enum.StrEnum):
    PROVED = "proved"
    """It may go: written before anything is deleted, with the proof."""
    QUARANTINED = "quarantined"
    """It lies in quarantine, and is deleted later, under another proof."""
    RESTORED = "restored"
    """It was brought back from there."""
    DELETED = "deleted"
    REFUSED = "refused"
    """It may not go; nothing was deleted."""
    PUT_OFF = "put off"
    """It may not go yet: it is planned for later."""
    FAILED = "failed"
    """It was proved, and the endpoint did not delete it, or did not say whether it did."""
    DENIED = "not permitted"
    """Of an operation, by the policy. In place of the copy stand its step, its places and the path of its scan."""


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    id: int
    at: float
    scan_id: str
    run_id: str | None
    dataset: str
    endpoint: str
    path: str
    generation: int
    verdict: Verdict
    reason: str
    evidence: Document

    @classmethod
    def from_row(cls, row: RowMapping) -> AuditRecord:
        return cls(**{**row, "verdict": Verdict(row["verdict"])})


class Audit:
    """The database itself refuses that a line is changed or removed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, copy: CopyRecord, verdict: Verdict, *, run_id: str | None = None, reason: str = "") -> AuditRecord:
        with self._database.write("audit") as connection:
            return add(connection, copy, verdict, at=self._database.now(), run_id=run_id, reason=reason)

    def of_scan(self, scan_id: str) -> Sequence[AuditRecord]:
        """What was decided about its copies, oldest first."""
        return self._select(audit.c.scan_id == scan_id, audit.c.verdict != Verdict.DENIED)

    def denials(self, scan_id: str) -> Sequence[AuditRecord]:
        """What was not permitted, oldest first."""
        return self._select(audit.c.scan_id == scan_id, audit.c.verdict == Verdict.DENIED)

    def _select(self, *conditions: ColumnElement[bool]) -> Sequence[AuditRecord]:
        query = select(audit).where(*conditions).order_by(audit.c.id)
        with self._database.read() as connection:
            return [AuditRecord.from_row(row) for row in connection.execute(query).mappings()]


def add(
    connection: Connection,
    copy: CopyRecord,
    verdict: Verdict,
    *,
    at: float,
    run_id: str | None,
    reason: str = "",
    evidence: Document | None = None,
) -> AuditRecord:
    """Within a transaction of the caller: what is decided and its line are written together, or not at all."""
    values = {
        "at": at,
        "scan_id": copy.scan_id,
        "run_id": run_id,
        "dataset": copy.dataset,
        "endpoint": copy.endpoint,
        "path": copy.path.text,
        "generation": copy.generation,
        "verdict": verdict,
        "reason": reason,
        "evidence": evidence or {},
    }
    row = connection.execute(audit.insert().values(**values).returning(audit)).mappings().one()
    return AuditRecord.from_row(row)


def deny(
    connection: Connection,
    operation: Operation[Request],
    *,
    at: float,
    run_id: str | None,
    reason: str,
    evidence: Document,
) -> None:
    """Within a transaction of the caller."""
    values = {
        "at": at,
        "scan_id": operation.scan.id,
        "run_id": run_id,
        "dataset": operation.step,
        "endpoint": operation.destination.name,
        "path": operation.scan.path.text,
        "generation": 0,
        "verdict": Verdict.DENIED,
        "reason": reason,
        "evidence": evidence,
    }
    connection.execute(audit.insert().values(**values))
