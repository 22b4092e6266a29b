"""Copies on their way into quarantine, and out of it again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from orchestration.errors import InvalidInput
from orchestration.ledger import audit
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.copy_queries import LEAVING
from orchestration.ledger.database import Database
from orchestration.ledger.operation import Operation
from orchestration.ledger.operations import Operations
from orchestration.ledger.plans import expire
from orchestration.ledger.service import Request
from orchestration.ledger.tables import audit as lines
from orchestration.ledger.tables import copies
from orchestration.paths import RelativePath

_ENTERED = lines.c.verdict == audit.Verdict.QUARANTINED


class Quarantine:
    """`Copies.begin_deletion` begins the way in. The way out is begun here."""

    def __init__(self, database: Database, operations: Operations) -> None:
        self._database = database
        self._operations = operations

    def endpoints(self) -> Sequence[str]:
        """Where copies were ever set aside, by name."""
        query = select(lines.c.endpoint).where(_ENTERED).distinct().order_by(lines.c.endpoint)
        with self._database.read() as connection:
            return connection.execute(query).scalars().all()

    def used(self, endpoint: str, folder: RelativePath) -> bool:
        """Whether a copy lies there in a folder of the quarantine, or is on its way into it or out of it."""
        there = copies.c.quarantine_path.startswith(f"{folder}/", autoescape=True)
        there &= (copies.c.endpoint == endpoint) & copies.c.state.in_(LEAVING)
        with self._database.read() as connection:
            return connection.execute(select(copies.c.id).where(there).limit(1)).first() is not None

    def scan_of(self, endpoint: str, folder: RelativePath) -> str | None:
        """The id of a scan of which a copy ever lay in that folder of the quarantine."""
        lay = lines.c.evidence["path"].as_string().startswith(f"{folder}/", autoescape=True)
        query = select(lines.c.scan_id).where(_ENTERED & lay & (lines.c.endpoint == endpoint)).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def entered(self, copy: CopyRecord, *, delete_after: float, run_id: str | None = None) -> None:
        """It lies there, until `delete_after` at least: what made it may be asked for again."""
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        this &= (copies.c.state == CopyState.DELETING) & copies.c.quarantined_at.is_(None)
        now = self._database.now()
        there = {"state": CopyState.QUARANTINED, "quarantined_at": now, "delete_after": delete_after, "deletion": None}
        told = copies.c.verified_by, copies.c.quarantine_path
        with self._database.write("copies") as connection:
            row = connection.execute(update(copies).where(this).values(**there).returning(*told)).one_or_none()
            if row is None:
                return  # written down before
            evidence = {"path": row.quarantine_path, "until": delete_after}
            audit.add(connection, copy, audit.Verdict.QUARANTINED, at=now, run_id=run_id, evidence=evidence)
            if row.verified_by is not None:
                expire(connection, row.verified_by)

    def begin_return(self, copy: CopyRecord, operation: Operation[Request], *, service: str) -> None:
        """From now on it is not deleted, before `operation` has ended.

        Raises:
            InvalidInput: if it is not there any more, is being deleted, or is brought back by another operation.
            PolicyRefused: if the operation is not permitted.
        """
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        this &= copies.c.state == CopyState.QUARANTINED
        this &= copies.c.deletion.is_(None) | (copies.c.deletion == operation.key)
        with self._operations.together("copies", operation, service=service) as planning:
            if not planning.connection.execute(update(copies).where(this).values(deletion=operation.key)).rowcount:
                raise InvalidInput(
                    "it is being deleted, or was brought back, at this very moment",
                    where=f"{copy.endpoint}:{copy.lies_at}",
                    next_step="look at it with `beamline retention explain`",
                )
            planning.plan_again()

    def stays(self, copy: CopyRecord) -> None:
        """It was not brought back, and that is certain."""
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        this &= copies.c.state == CopyState.QUARANTINED
        with self._database.write("copies") as connection:
            connection.execute(update(copies).where(this).values(deletion=None))

    def left(self, copy: CopyRecord, *, delete_after: float | None, run_id: str | None = None, who: str = "") -> None:
        """It is where it was before, with the evidence that it had.

        It counts as made anew: runs that were to delete what lay in quarantine leave it alone.
        """
        this = (copies.c.id == copy.id) & (copies.c.generation == copy.generation)
        this &= copies.c.state == CopyState.QUARANTINED
        there = {
            "state": CopyState.PRESENT,
            "generation": copies.c.generation + 1,
            "delete_after": delete_after,
            "deletion": None,
            "quarantined_at": None,
            "quarantine_path": None,
        }
        with self._database.write("copies") as connection:
            if connection.execute(update(copies).where(this).values(**there)).rowcount:
                reason = f"by {who}" if who else ""
                now = self._database.now()
                audit.add(connection, copy, audit.Verdict.RESTORED, at=now, run_id=run_id, reason=reason)
