"""Results and their receipts: what was made, from what, how, by which code, where and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import RowMapping, and_, select, update

from orchestration.ledger.database import Database
from orchestration.ledger.service import Document
from orchestration.ledger.tables import results
from orchestration.paths import RelativePath


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Enough to make the result again, and to trust it."""

    inputs: tuple[Document, ...]
    """Each ``{dataset, endpoint, path, size, checksum}``."""
    parameters: Document
    code_version: str
    environment: Document
    """Versions of the interpreter, the packages or the container that computed it."""
    site: str
    job: str
    """The job's handle at the site."""
    timings: Document
    """Seconds per stage."""
    quality: Document
    """What the program says of its own result: center of rotation and confidence, number of slices, ..."""

    def document(self) -> Document:
        return {
            "inputs": list(self.inputs),
            "parameters": self.parameters,
            "code_version": self.code_version,
            "environment": self.environment,
            "site": self.site,
            "job": self.job,
            "timings": self.timings,
            "quality": self.quality,
        }

    @classmethod
    def from_document(cls, document: Document) -> Receipt:
        known = {field.name: document[field.name] for field in fields(cls)}
        return cls(**{**known, "inputs": tuple(document["inputs"])})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    id: int
    scan_id: str
    operation_key: str
    kind: str
    endpoint: str
    path: RelativePath
    receipt: Receipt
    created_at: float

    @classmethod
    def from_row(cls, row: RowMapping) -> ResultRecord:
        values = dict(row)
        values["path"] = RelativePath(values["path"])
        values["receipt"] = Receipt.from_document(values["receipt"])
        return cls(**values)


class Results:
    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self, *, scan_id: str, operation_key: str, kind: str, endpoint: str, path: RelativePath, receipt: Receipt
    ) -> ResultRecord:
        """One of a kind and a scan per operation that computed it: recorded again after a crash, it is still one."""
        values = {"endpoint": endpoint, "path": path.text, "receipt": receipt.document()}
        where = and_(results.c.operation_key == operation_key, results.c.scan_id == scan_id, results.c.kind == kind)
        with self._database.write("results") as connection:
            if connection.execute(select(results.c.id).where(where)).one_or_none() is None:
                key = {
                    "scan_id": scan_id,
                    "operation_key": operation_key,
                    "kind": kind,
                    "created_at": self._database.now(),
                }
                connection.execute(results.insert().values(**key, **values))
            else:
                connection.execute(update(results).where(where).values(**values))
            row = connection.execute(select(results).where(where)).mappings().one()
        return ResultRecord.from_row(row)

    def of_scan(self, scan_id: str) -> Sequence[ResultRecord]:
        """Newest last."""
        query = select(results).where(results.c.scan_id == scan_id).order_by(results.c.created_at, results.c.id)
        with self._database.read() as connection:
            return [ResultRecord.from_row(row) for row in connection.execute(query).mappings()]
