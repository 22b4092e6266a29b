"""Every test runs without the credentials, settings and servers of the machine that it runs on."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect
from xdist.scheduler import LoadScopeScheduling

from orchestration.ledger import database
from orchestration.sandbox.migrated import VARIABLE

_OURS = ("BEAMLINE_", "GLOBUS_", "SCICAT_", "PREFECT_", "PATH_NERSC_", "SFAPI_", "IRI_")
_KEPT = "BEAMLINE_TEST_"

for name in [name for name in os.environ if name.startswith(_OURS) and not name.startswith(_KEPT)]:
    del os.environ[name]

# A shell starts what it runs in the background with SIGINT ignored, and all that is started from there inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports Prefect, which reads its settings then. No test may find, or leave, a profile of the user.
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"


def pytest_configure(config: pytest.Config) -> None:
    """Servers of Prefect are started often; and the order of tests is that of `pytest_collection_modifyitems`."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if getattr(config, "cache", None) is not None:  # which "-p no:cacheprovider" takes away
        kept = config.cache.mkdir("prefect") / f"{version('prefect')}.db"
        os.environ[VARIABLE] = str(kept)


_SHARING = ("aps8idi", "chaos", "commands", "prefect", "siting")
"""Folders whose tests share servers that take long to start: each is tested by one process, one file after another."""

_HALVES = {"chaos": "test_chaos_m"}
"""Of a folder with very many tests, the files before this name are tested by another process than those after it."""

_LONG = (
    "tests/waiting/test_waiting_prefect.py",
    "tests/retention/test_retention_histories.py",
    "tests/retention/test_retention_planted.py",
)
"""Few tests that take minutes: begun last, they would keep all processes but one idle."""


def _scope(nodeid: str) -> str:
    path = nodeid.partition("::")[0]
    folder, name = Path(path).parent, Path(path).name
    if folder.name not in _SHARING:
        return path
    return f"{folder} after" if name > _HALVES.get(folder.name, name) else str(folder)


class _ByFolder(LoadScopeScheduling):  # type: ignore[misc]
    """The tests of all other files are tested together file by file."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, and then what has many tests."""
    sizes = Counter(_scope(item.nodeid) for item in items)
    items.sort(key=lambda item: (_scope(item.nodeid) not in _LONG, -sizes[_scope(item.nodeid)]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return _ByFolder(config, log)


_shared: dict[Path, tuple[ExitStack, dict[Hashable, Any]]] = {}


@pytest.fixture
def once(request: pytest.FixtureRequest) -> Callable[[Hashable, Callable[[], AbstractContextManager[Any]]], Any]:
    """What all tests of a folder share, by name: made when the first asks for it, and gone after the last.

    A fixture of the session would be there to the end, and servers that nobody needs any more slow all others down.
    """
    stack, made = _shared.setdefault(request.path.parent, (ExitStack(), {}))

    def get(name: Hashable, make: Callable[[], AbstractContextManager[Any]]) -> Any:
        if name not in made:
            made[name] = stack.enter_context(make())
        return made[name]

    return get


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    folder = item.path.parent
    if folder in _shared and (nextitem is None or nextitem.path.parent != folder):
        _shared.pop(folder)[0].close()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Away from the project's folder: a sandbox that runs there, or a .env, must not be found by what is shared."""
    before, folder = Path.cwd(), tempfile.TemporaryDirectory(prefix="beamline-tests-", ignore_cleanup_errors=True)
    os.chdir(folder.name)
    session.config.add_cleanup(folder.cleanup)
    session.config.add_cleanup(lambda: os.chdir(before))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own, and without the variables that another test has loaded."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def _new_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ledger") / "new.sqlite"
    database.migrate(f"sqlite:///{made}")
    return made


@pytest.fixture(autouse=True)
def _ledgers_by_copy(_new_ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new ledger is a copy of one that the migrations have made: they take a quarter of a second each time."""
    migrations = database._upgrade

    def upgrade(engine: Engine) -> None:
        if engine.dialect.name != "sqlite" or inspect(engine).get_table_names():
            return migrations(engine)
        with closing(sqlite3.connect(_new_ledger)) as made, closing(sqlite3.connect(str(engine.url.database))) as new:
            made.backup(new)
        return None

    monkeypatch.setattr(database, "_upgrade", upgrade)
