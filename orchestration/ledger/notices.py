"""What people are told by mail: written down first, and sent until the mail server has taken it."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, func, select, update

from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.database import Database
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import copies, notices, warned_copies


class NoticeKind(enum.StrEnum):
    ALARM = "alarm"
    """For operators."""
    WARNING = "warning"
    """For owners, of deletions."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    key: str
    kind: NoticeKind
    addresses: tuple[str, ...]
    subject: str
    body: str
    made_at: float
    sent_at: float | None
    trouble: str
    """Why it was not sent so far, or not to those whom it was meant for."""

    @classmethod
    def from_row(cls, row: RowMapping) -> Notice:
        return cls(**{**row, "kind": NoticeKind(row["kind"]), "addresses": tuple(row["addresses"])})


class Notices:
    """A key is written down once: what is told under it later is dropped."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self,
        *,
        key: str,
        kind: NoticeKind,
        addresses: Sequence[str],
        subject: str,
        body: str,
        warns_of: Collection[CopyRecord] = (),
    ) -> bool:
        """Whether it is new. With it, in one step, the copies whose owners it warns are noted."""
        values = {"key": key, "kind": kind, "addresses": [*addresses], "subject": subject, "body": body}
        rows = [{"copy_id": copy.id, "generation": copy.generation, "notice_key": key} for copy in warns_of]
        with self._database.write("notices") as connection:
            if _exists(connection, key):
                return False
            connection.execute(notices.insert().values(**values, made_at=self._database.now(), trouble=""))
            if rows:
                connection.execute(warned_copies.insert(), rows)
            return True

    def exists(self, key: str) -> bool:
        with self._database.read() as connection:
            return _exists(connection, key)

    def unsent(self) -> Sequence[Notice]:
        """The oldest first."""
        query = select(notices).where(notices.c.sent_at.is_(None)).order_by(notices.c.made_at, notices.c.key)
        with self._database.read() as connection:
            return [Notice.from_row(row) for row in connection.execute(query).mappings()]

    def latest(self, *, limit: int) -> Sequence[Notice]:
        query = select(notices).order_by(notices.c.made_at.desc(), notices.c.key).limit(limit)
        with self._database.read() as connection:
            return [Notice.from_row(row) for row in connection.execute(query).mappings()]

    def sent(self, notice: Notice, *, trouble: str = "") -> None:
        """A mail server has taken it."""
        self._update(notice.key, sent_at=self._database.now(), trouble=trouble)

    def failed(self, notice: Notice, trouble: str) -> None:
        self._update(notice.key, trouble=trouble)

    def readdress(self, notice: Notice, addresses: Sequence[str], *, trouble: str) -> None:
        self._update(notice.key, addresses=[*addresses], trouble=trouble)

    def warned_at(self, copy: CopyRecord) -> float | None:
        """When a warning of the deletion of this generation of a copy was sent first; None if none was so far."""
        mine = (warned_copies.c.copy_id == copy.id) & (warned_copies.c.generation == copy.generation)
        query = select(func.min(notices.c.sent_at)).join(warned_copies, warned_copies.c.notice_key == notices.c.key)
        with self._database.read() as connection:
            return connection.execute(query.where(mine)).scalar_one_or_none()

    def warned(self) -> Mapping[int, float]:
        """When the warning of each copy (by id) was sent, of those that were sent; as the copies are now."""
        same = (warned_copies.c.copy_id == copies.c.id) & (warned_copies.c.generation == copies.c.generation)
        query = select(warned_copies.c.copy_id, func.min(notices.c.sent_at)).join(copies, same)
        query = query.join(notices, notices.c.key == warned_copies.c.notice_key)
        query = query.where(notices.c.sent_at.is_not(None)).group_by(warned_copies.c.copy_id)
        with self._database.read() as connection:
            return {int(number): float(at) for number, at in connection.execute(query)}

    def noted(self, known: Collection[CopyRecord]) -> frozenset[int]:
        """The ids of those copies of which a warning was written down, sent or not."""
        found: set[int] = set()
        generations = {copy.id: copy.generation for copy in known}
        with self._database.read() as connection:
            for some in batched(sorted(generations), KEYS_AT_ONCE):
                query = select(warned_copies.c.copy_id, warned_copies.c.generation)
                for row in connection.execute(query.where(warned_copies.c.copy_id.in_(some))):
                    if generations[row.copy_id] == row.generation:
                        found.add(row.copy_id)
        return frozenset(found)

    def _update(self, key: str, **values: object) -> None:
        with self._database.write("notices") as connection:
            connection.execute(update(notices).where(notices.c.key == key).values(**values))


def _exists(connection: Connection, key: str) -> bool:
    return connection.execute(select(notices.c.key).where(notices.c.key == key)).one_or_none() is not None
