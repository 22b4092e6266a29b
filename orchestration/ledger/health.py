"""Is the ledger whole? Looked at without changing anything, from whatever version its schema has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from orchestration.ledger import requests
from orchestration.ledger.claims import held
from orchestration.ledger.database import SCHEMA_VERSION, Database, schema_version, shown
from orchestration.ledger.operation import OperationState
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.tables import copies, metadata, operations, runs
from orchestration.ledger.watchers import alive_watchers


@dataclass(frozen=True, kw_only=True)
class Health:
    url: str
    """Without its password."""
    schema: str | None
    """None for a database in which nothing was ever written."""
    needed: str
    rows: dict[str, int]
    """How many of each table; empty unless the schema is the needed one."""
    open_operations: int
    unattended: tuple[str, ...]
    """Open operations (``step (key)``) that no live run holds: the next run of their scan carries on."""
    waiting_runs: tuple[str, ...]
    """Suspended: a watcher waits in their place for what they have going on."""
    watchers: int
    """How many of those live."""
    dead_runs: tuple[str, ...]
    problems: tuple[str, ...]
    """What should never be; empty in a ledger that is whole."""

    @property
    def sound(self) -> bool:
        return self.schema == self.needed and not self.problems


def examine(url: str) -> Health:
    """Look at the ledger at `url`.

    Raises:
        LedgerError: if it cannot be reached.
    """
    version = schema_version(url)
    if version != SCHEMA_VERSION:
        return Health(
            url=shown(url),
            schema=version,
            needed=SCHEMA_VERSION,
            rows={},
            open_operations=0,
            unattended=(),
            waiting_runs=(),
            watchers=0,
            dead_runs=(),
            problems=(),
        )
    database = Database(url)
    try:
        with database.read() as connection:
            return _look(connection, shown(url), database.now())
    finally:
        database.close()


def _look(connection: Connection, url: str, now: float) -> Health:
    states = [state for state in OperationState if state.open]
    query = select(operations).where(operations.c.state.in_(states)).order_by(operations.c.created_at)
    still = requests.records(connection, connection.execute(query).mappings().all())
    alive = [RunState.RUNNING, RunState.WAITING, RunState.CANCELLING]
    records = [
        RunRecord.from_row(row) for row in connection.execute(select(runs).where(runs.c.state.in_(alive))).mappings()
    ]
    waiting = [run for run in records if run.state is RunState.WAITING]
    waited_for = {key for run in waiting for key in run.awaits}
    unattended = [record for record in still if record.key not in waited_for and not held(record, now)]
    return Health(
        url=url,
        schema=SCHEMA_VERSION,
        needed=SCHEMA_VERSION,
        rows={
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        },
        open_operations=len(still),
        unattended=tuple(f"{record.step} ({record.key})" for record in unattended),
        waiting_runs=tuple(run.id for run in waiting),
        watchers=len(alive_watchers(connection, now)),
        dead_runs=tuple(run.id for run in records if run.dead(now)),
        problems=tuple(_problems(connection)),
    )


def _problems(connection: Connection) -> Iterator[str]:
    if connection.dialect.name == "sqlite":
        for (line,) in connection.execute(text("pragma integrity_check")):
            if line != "ok":
                yield f"the file is damaged: {line}"
        for row in connection.execute(text("pragma foreign_key_check")):
            yield f"row {row[1]} of {row[0]} points at nothing in {row[2]}"
    unfinished = (operations.c.state.in_([OperationState.SUCCEEDED, OperationState.FAILED])) & (
        operations.c.finished_at.is_(None)
    )
    for key in connection.execute(select(operations.c.key).where(unfinished)).scalars():
        yield f"operation {key} has ended at no time"
    handleless = (operations.c.state == OperationState.RUNNING) & operations.c.handle.is_(None)
    for key in connection.execute(select(operations.c.key).where(handleless)).scalars():
        yield f"operation {key} is running under no handle"
    known = select(operations.c.key)
    orphans = copies.c.verified_by.is_not(None) & copies.c.verified_by.not_in(known)
    for copy in connection.execute(select(copies.c.id).where(orphans)).scalars():
        yield f"copy {copy} was verified by an operation that is not in the ledger"
