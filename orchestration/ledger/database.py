"""Opening the database behind the ledger: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from orchestration.errors import LedgerError, LedgerOutdated
from orchestration.ledger import boundary

SCHEMA_VERSION = "0012"
"""The newest revision in `migrations/versions`."""

BUSY_SECONDS = 60.0
CONNECT_SECONDS = 10

_MIGRATING, _WRITING = 832, 833
"""Advisory locks of PostgreSQL."""

_ALEMBIC = threading.Lock()
"""It keeps what it works at in its modules: threads of one process that make databases take turns."""


def connect(url: str) -> Engine:
    """An engine for `url` whose schema fits this code; an empty database gets the schema.

    Raises:
        LedgerOutdated: if it holds another version.
        LedgerError: if it cannot be reached.
    """
    engine = _engine(url)
    try:
        with _speaking(engine.url):
            version = _current(engine)
        if version != SCHEMA_VERSION:
            raise _other(version, engine.url)
    except BaseException:
        engine.dispose()
        raise
    return engine


def migrate(url: str) -> None:
    """Bring the schema to the version of this code. Safe to call from several processes at once."""
    engine = _engine(url)
    try:
        with _speaking(engine.url), _one_at_a_time(engine):
            version = _version(engine)
            if version is not None and version > SCHEMA_VERSION:
                raise _other(version, engine.url)
            _upgrade(engine)
    finally:
        engine.dispose()


def schema_version(url: str) -> str | None:
    """Of the database as it is; None if it is empty. Changes nothing."""
    engine = _engine(url)
    try:
        with _speaking(engine.url), _one_at_a_time(engine):
            return _version(engine)
    finally:
        engine.dispose()


class Database:
    """Transactions on one engine. Each is short: nothing outside is ever asked within one."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self.now = clock
        self._engine = connect(url)
        self._reading = self._engine.execution_options(reading=True)
        self._turn = threading.Lock()

    @contextmanager
    def write(self, subject: str) -> Iterator[Connection]:
        """A transaction that nobody else's writing can interleave with, from its first statement to its commit."""
        boundary.reached(boundary.Boundary.BEFORE_WRITE, subject)
        # One writer at a time is what SQLite can do. Threads of this process queue here, in order, rather than at
        # the file, where the one that waits longest is not the one that is served.
        with self._turn, _speaking(self._engine.url), self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"select pg_advisory_xact_lock({_WRITING})"))
            yield connection
        boundary.reached(boundary.Boundary.AFTER_WRITE, subject)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _speaking(self._engine.url), self._reading.connect() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        return _postgresql(parsed)
    except (ArgumentError, ImportError) as error:
        raise LedgerError(
            f"the ledger's database cannot be opened: {error}",
            next_step="correct ledger.url in config.yml; for PostgreSQL, install beamline-orchestration[postgresql]",
        ) from error


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise LedgerError(
            "a ledger in memory would forget what was asked of the outside world",
            where=shown(url),
            next_step="give ledger.url in config.yml the path of a file",
        )
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(url, error) from error
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, max_overflow=-1, json_serializer=_json)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: URL) -> Engine:
    # A client that froze in the middle of writing must not stop all the others: the server ends its session.
    patience = f"-c lock_timeout={BUSY_SECONDS:.0f}s -c idle_in_transaction_session_timeout={BUSY_SECONDS:.0f}s"
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_timeout=BUSY_SECONDS,
        connect_args={"connect_timeout": CONNECT_SECONDS, "options": patience},
        json_serializer=_json,
    )


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    """WAL: readers and the one writer do not wait for each other. FULL: a commit survives the loss of power."""
    connection.isolation_level = None  # no implicit BEGIN of the driver: see _begin_sqlite
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a transaction that first reads and then writes could otherwise fail half way."""
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reading") else "BEGIN IMMEDIATE")


def _current(engine: Engine) -> str | None:
    """The version found, after an empty database was given the schema."""
    with _one_at_a_time(engine):
        version = _version(engine)
        if version is None:
            _upgrade(engine)
            version = _version(engine)
        return version


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    settings = Config()
    folder = Path(__file__).parent / "migrations"
    settings.set_main_option("script_location", str(folder).replace("%", "%%"))
    with _ALEMBIC, engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


def _version(engine: Engine) -> str | None:
    with engine.connect().execution_options(reading=True) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("select version_num from alembic_version")).scalar()


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    """Among all processes that open this database, or change its schema."""
    if engine.dialect.name == "sqlite":
        with Path(f"{engine.url.database}.migration-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with engine.connect() as connection:
        # Of the transaction, not of the session: released however this ends, even through a connection pooler.
        connection.execute(text("set local idle_in_transaction_session_timeout = 0"))
        connection.execute(text(f"select pg_advisory_xact_lock({_MIGRATING})"))
        yield


@contextmanager
def _speaking(url: URL) -> Iterator[None]:
    """What the database's driver raises becomes a LedgerError, without the statement and without the password."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise _unusable(url, error) from error


def _other(version: str | None, url: URL) -> LedgerOutdated:
    newer = version is not None and version > SCHEMA_VERSION
    return LedgerOutdated(
        f"the ledger has schema {version}, this code needs {SCHEMA_VERSION}",
        where=shown(url),
        next_step="update this program: a newer one has used the ledger" if newer else "",
    )


def _unusable(url: URL, error: Exception) -> LedgerError:
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    if url.password:
        reason = reason.replace(str(url.password), "***")
    if isinstance(error, IntegrityError | DataError):
        return LedgerError(f"the ledger refuses this record: {reason}", where=shown(url))
    return LedgerError(
        f"the ledger's database does not answer: {reason}",
        where=shown(url),
        next_step="start the database, or correct ledger.url in config.yml",
    )


def _json(value: object) -> str:
    """What a service says of its work may hold NaN, which is no JSON: PostgreSQL would refuse the whole outcome."""
    with contextlib.suppress(ValueError):
        return json.dumps(value, allow_nan=False)
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shown(url: URL | str) -> str:
    """As it may be printed: without its password."""
    return make_url(url).render_as_string(hide_password=True)
