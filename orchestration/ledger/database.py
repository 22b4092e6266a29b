"""Opening the database behind the ledger: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError

from orchestration.errors import LedgerError, LedgerOutdated
from orchestration.ledger import boundary

SCHEMA_VERSION = "0001"
"""The newest revision in `migrations/versions`."""

BUSY_SECONDS = 60.0


def connect(url: str) -> Engine:
    """An engine for `url` whose schema fits this code; an empty database gets the schema.

    Raises:
        LedgerOutdated: if it holds another version.
        LedgerError: if it cannot be reached.
    """
    engine = _engine(url)
    try:
        version = _version(engine)
        if version is None:
            migrate(url)
            version = _version(engine)
    except OperationalError as error:
        raise LedgerError(
            f"the ledger's database does not answer: {error.orig}",
            where=_shown(url),
            next_step="start the database, or correct ledger.url in config.yml",
        ) from error
    if version != SCHEMA_VERSION:
        raise LedgerOutdated(f"the ledger has schema {version}, this code needs {SCHEMA_VERSION}", where=_shown(url))
    return engine


def migrate(url: str) -> None:
    """Bring the schema to the version of this code. Safe to call from several processes at once."""
    from alembic import command
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with _one_at_a_time(url), _engine(url).connect() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        connection.commit()


class Database:
    """Transactions on one engine. Each is short: nothing outside is ever asked within one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = connect(url)
        self._reading = self._engine.execution_options(reading=True)

    @contextmanager
    def write(self, subject: str) -> Iterator[Connection]:
        """A transaction that holds the write lock (SQLite) from its first statement."""
        boundary.reached(boundary.Boundary.BEFORE_WRITE, subject)
        with self._engine.begin() as connection:
            yield connection
        boundary.reached(boundary.Boundary.AFTER_WRITE, subject)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._reading.connect() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    """WAL: readers and the one writer do not wait for each other. FULL: a commit survives the loss of power."""
    connection.isolation_level = None  # no implicit BEGIN of the driver: see _begin_sqlite
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a transaction that first reads and then writes could otherwise fail half way."""
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE")


def _version(engine: Engine) -> str | None:
    with engine.connect().execution_options(reading=True) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("select version_num from alembic_version")).scalar()


@contextmanager
def _one_at_a_time(url: str) -> Iterator[None]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        with Path(f"{parsed.database}.migration-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with _engine(url).connect() as connection:
        connection.execute(text("select pg_advisory_lock(832)"))
        yield


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
