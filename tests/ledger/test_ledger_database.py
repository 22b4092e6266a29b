"""The database: opened by several at once, of another version, away, and written to by many."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, select, text

from orchestration.errors import LedgerError, LedgerOutdated
from orchestration.ledger import Ledger, database, tables
from orchestration.ledger.database import SCHEMA_VERSION, migrate, schema_version, shown
from orchestration.ledger.owner import Owner
from orchestration.ledger.scan import Scan
from orchestration.ledger.waiting import Awaited
from orchestration.paths import RelativePath

MIGRATIONS = Path(database.__file__).parent / "migrations"


@pytest.fixture(autouse=True)
def _ledgers_by_copy() -> None:
    """Here the migrations themselves make them."""


OPENS = """
import sys
from orchestration.ledger import Ledger
from orchestration.paths import RelativePath
print("ready", flush=True)
sys.stdin.readline()
with Ledger(sys.argv[1]) as ledger:
    print(ledger.scans.register(beamline="b", path=RelativePath("a.h5")).id)
"""

WRITES = """
import sys
from concurrent.futures import ThreadPoolExecutor
from orchestration.ledger import Ledger
from orchestration.paths import RelativePath
with Ledger(sys.argv[1]) as ledger:
    def one(number):
        ledger.scans.register(beamline=sys.argv[2], path=RelativePath(f"{number}.h5"))
        return ledger.scans.learn(ledger.scans.latest(limit=1)[0].id, {sys.argv[2]: number})
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(one, range(100)))
"""


def together(program: str, *commands: tuple[str, ...]) -> list[str]:
    children = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in commands
    ]
    if program is OPENS:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
    answers = [child.communicate("go\n", timeout=120) for child in children]
    assert [child.returncode for child in children] == [0] * len(children), answers
    assert [stderr for _, stderr in answers] == [""] * len(children)
    return [stdout for stdout, _ in answers]


def test_processes_that_open_a_new_ledger_at_once_agree(ledger_url: str) -> None:
    assert len(set(together(OPENS, *[(ledger_url,)] * 3))) == 1
    with Ledger(ledger_url) as ledger:
        assert len(ledger.scans.latest()) == 1


def test_threads_that_make_ledgers_at_once_do_not_meet(tmp_path: Path) -> None:
    def make(number: int) -> str | None:
        url = f"sqlite:///{tmp_path / f'{number}.sqlite'}"
        Ledger(url).close()
        return schema_version(url)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(make, range(16))) == {SCHEMA_VERSION}


def test_hundreds_of_writers_of_several_processes_all_come_to_write(ledger_url: str) -> None:
    Ledger(ledger_url).close()
    together(WRITES, *[(ledger_url, f"b{number}") for number in range(3)])
    with Ledger(ledger_url) as ledger:
        assert [len(ledger.scans.latest(beamline=f"b{number}", limit=1000)) for number in range(3)] == [100] * 3


def test_the_migrations_make_what_the_code_describes(ledger: Ledger) -> None:
    with ledger.scans._database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []


def test_the_code_needs_the_newest_migration(ledger: Ledger, ledger_url: str) -> None:
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(settings).get_current_head() == SCHEMA_VERSION
    assert schema_version(ledger_url) == SCHEMA_VERSION


def test_the_schema_can_be_taken_back_and_made_again(ledger_url: str) -> None:
    assert schema_version(ledger_url) is None
    migrate(ledger_url)
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(ledger_url)
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.downgrade(settings, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrate(ledger_url)
    migrate(ledger_url)
    with Ledger(ledger_url) as ledger:
        ledger.scans.register(beamline="b", path=RelativePath("a.h5"))


def test_runs_that_an_older_version_had_suspended_go_on(ledger: Ledger, ledger_url: str) -> None:
    """It wrote down a deadline for each operation, and nothing else."""
    awaited = {"a": Awaited(until=5.0, may_move=True), "b": Awaited(until=6.0, may_move=True)}
    for run, waiting_for in (("r", awaited), ("nothing", {})):
        ledger.runs.begin(run_id=run, flow="f", parameters={}, owner=Owner.here())
        ledger.runs.wait(run, waiting_for)
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(ledger_url)
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.downgrade(settings, "0003")
        found = connection.execute(select(tables.runs.c.waiting_for).where(tables.runs.c.id == "r")).scalar()
    engine.dispose()
    assert found == {"a": 5.0, "b": 6.0}
    migrate(ledger_url)
    assert {run.id: run.waiting_for for run in ledger.runs.waiting()} == {"r": awaited, "nothing": {}}


@pytest.mark.parametrize(
    ("version", "next_step"), [("0000", "beamline ledger migrate"), ("9999", "update this program")]
)
def test_a_ledger_of_another_version_is_not_touched(ledger_url: str, version: str, next_step: str) -> None:
    migrate(ledger_url)
    engine = create_engine(ledger_url)
    with engine.begin() as connection:
        connection.execute(text(f"update alembic_version set version_num = '{version}'"))
    with pytest.raises(LedgerOutdated, match=next_step):
        Ledger(ledger_url)
    if version > SCHEMA_VERSION:
        with pytest.raises(LedgerOutdated, match=next_step):
            migrate(ledger_url)
    with engine.begin() as connection:
        assert connection.execute(text("select version_num from alembic_version")).scalar() == version
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://beamline:hunter2@127.0.0.1:1/ledger",
        "postgresql+psycopg://beamline:hunter2@127.0.0.1:1/ledger",
    ],
)
def test_a_server_that_is_away_is_named_without_its_password(url: str) -> None:
    with pytest.raises(LedgerError, match="does not answer") as caught:
        Ledger(url)
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__dict__)


@pytest.mark.parametrize("url", ["nonsense", "nosuchdatabase://x/y", "sqlite://", "sqlite:///:memory:"])
def test_an_address_that_cannot_be_a_ledger_is_refused(url: str) -> None:
    with pytest.raises(LedgerError, match=r"ledger\.url"):
        Ledger(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("this is not a database, " * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(f"sqlite:///{tmp_path}/notes")
    with pytest.raises(LedgerError, match="does not answer"):
        Ledger(f"sqlite:///{tmp_path}/notes/below/ledger.sqlite")


def test_folders_of_the_ledger_are_made_whatever_they_are_called(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/100%25 new/état/ledger.sqlite") as ledger:
        assert ledger.scans.latest() == []


def test_sqlite_keeps_a_commit_when_the_power_goes_and_checks_references(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger, ledger.scans._database.read() as connection:
        values = [connection.exec_driver_sql(f"pragma {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert values == ["wal", 2]
        assert connection.exec_driver_sql("pragma foreign_keys").scalar() == 1


def test_a_record_that_points_at_nothing_is_refused(ledger: Ledger, scan: Scan) -> None:
    with pytest.raises(LedgerError, match="refuses this record"):
        ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here(), scan_id="nobody")


def test_a_reader_does_not_wait_for_a_writer(ledger: Ledger, scan: Scan) -> None:
    with ledger.scans._database.write("scans"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(ledger.scans.get, scan.id).result(timeout=5) == scan


def test_what_is_raised_within_a_transaction_takes_it_back(ledger: Ledger, scan: Scan) -> None:
    def half() -> None:
        with ledger.scans._database.write("scans") as connection:
            connection.execute(tables.scans.delete())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert ledger.scans.get(scan.id) == scan


def test_a_name_of_any_length_can_be_written(ledger: Ledger, scan: Scan) -> None:
    ledger.runs.begin(run_id="r", flow="f" * 1000, parameters={}, owner=Owner.here(), scan_id=scan.id)
    assert ledger.runs.of_scan(scan.id)[0].flow == "f" * 1000


def test_nothing_is_left_open(ledger_url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ledger(ledger_url).close()
        schema_version(ledger_url)
        gc.collect()


def test_what_is_shown_of_an_address_has_no_password() -> None:
    assert shown("postgresql://u:hunter2@h/d") == "postgresql://u:***@h/d"
