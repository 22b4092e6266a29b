"""Holds on scans, and the audit of what was decided about deletions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from ledger_world import QUICK, Books, errand
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from orchestration.errors import InvalidInput, JobFailed, UnknownName
from orchestration.ledger import Ledger
from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyRecord, CopyState, Proven, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import OperationState
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath


@pytest.fixture
def copy(ledger: Ledger, scan: Scan) -> CopyRecord:
    return _copied(ledger, scan, "spot832")


@pytest.fixture
def later(ledger_url: str, scan: Scan) -> Iterator[Ledger]:
    """The same ledger, in the year 2100."""
    with Ledger(ledger_url, clock=lambda: 4.1e9) as ledger:
        yield ledger


def _copied(ledger: Ledger, scan: Scan, endpoint: str) -> CopyRecord:
    return ledger.copies.record(
        scan_id=scan.id,
        dataset="raw",
        endpoint=endpoint,
        path=scan.path,
        role=Role.REPLICA,
        manifest=[FileEvidence(path="", size=3, checksum="md5:0")],
        method="test",
        verified_by=None,
    )


def begun(ledger: Ledger, copy: CopyRecord, *witnesses: CopyRecord) -> str:
    """Begin the deletion of a copy; why it could not be, or nothing."""
    evidence: Document = {"witnesses": [witness.endpoint for witness in witnesses]}
    proven = Proven(copy=copy, witnesses=witnesses, evidence=evidence)
    operation = errand(ledger.scans.get(copy.scan_id), f"delete at {copy.endpoint}")
    refused = ledger.copies.begin_deletion([proven], operation, service="books", run_id="run")
    return "".join(why.what for why in refused.values())


@pytest.mark.parametrize("held", ["raw/p", "raw/p/scan.h5"])
def test_what_shares_files_with_a_scan_that_is_held_is_kept_as_well(ledger: Ledger, held: str) -> None:
    """A folder that is a scan, and a file in it that is another."""
    copies = {
        path: _copied(ledger, ledger.scans.register(beamline="bl832", path=RelativePath(path)), "spot832")
        for path in ("raw/p", "raw/p/scan.h5", "raw/p2", "raw/p/scan.h5.old")
    }
    placed = ledger.holds.place(copies[held].scan_id, why="paper", who="ada")
    (other,) = {"raw/p", "raw/p/scan.h5"} - {held}
    assert begun(ledger, copies[other]).startswith(f"scan {placed.scan_id}, of which it has files, is held by ada")
    assert ledger.copies.get(copies[other].id).state is CopyState.PRESENT
    assert not begun(ledger, copies["raw/p2"])
    assert bool(begun(ledger, copies["raw/p/scan.h5.old"])) == (held == "raw/p")
    ledger.holds.release(placed.scan_id, who="ada")
    assert not begun(ledger, copies[other])


def test_a_hold_stands_until_it_is_released_and_is_remembered_then(ledger: Ledger, scan: Scan) -> None:
    placed = ledger.holds.place(scan.id, why="paper", who="ada")
    assert ledger.holds.standing(scan.id) == [placed]
    assert ledger.holds.release(scan.id, who="bob") == [placed]
    assert ledger.holds.standing(scan.id) == []
    assert ledger.holds.release(scan.id, who="bob") == []
    (known,) = ledger.holds.of_scan(scan.id)
    assert (known.why, known.who, known.released_by) == ("paper", "ada", "bob")
    assert known.released_at is not None


def test_a_hold_ends_by_itself_when_its_time_is_over(ledger: Ledger, scan: Scan, later: Ledger) -> None:
    ledger.holds.place(scan.id, why="review", who="ada", until=4.0e9)
    for_ever = ledger.holds.place(scan.id, why="thesis", who="bob")
    assert len(ledger.holds.standing(scan.id)) == 2
    assert later.holds.standing(scan.id) == [for_ever]


@pytest.mark.parametrize(("why", "until"), [("", None), ("  ", None), ("paper", 1.0)])
def test_a_hold_without_a_reason_or_a_future_is_refused(
    why: str, until: float | None, ledger: Ledger, scan: Scan
) -> None:
    with pytest.raises(InvalidInput):
        ledger.holds.place(scan.id, why=why, who="ada", until=until)
    assert ledger.holds.of_scan(scan.id) == []


def test_no_hold_is_placed_on_what_is_no_scan(ledger: Ledger) -> None:
    with pytest.raises(UnknownName):
        ledger.holds.place("nothing", why="paper", who="ada")


def test_a_hold_that_comes_after_the_proof_keeps_the_copy(ledger: Ledger, scan: Scan, copy: CopyRecord) -> None:
    ledger.holds.place(scan.id, why="paper", who="ada")
    assert "held by ada until it is released: paper" in begun(ledger, copy)
    assert ledger.copies.get(copy.id).state is CopyState.PRESENT
    assert ledger.audit.of_scan(scan.id) == []


def test_a_deletion_leaves_its_proof_and_its_end_in_the_audit(ledger: Ledger, scan: Scan, copy: CopyRecord) -> None:
    witness = _copied(ledger, scan, "data832")
    assert not begun(ledger, copy, witness)
    ledger.copies.deleted(copy, run_id="run")
    ledger.copies.deleted(copy, run_id="another")  # told again: it is gone once
    lines = ledger.audit.of_scan(scan.id)
    assert [line.verdict for line in lines] == [Verdict.PROVED, Verdict.DELETED]
    assert lines[0].evidence == {"witnesses": ["data832"]}
    told = {(line.endpoint, line.path, line.dataset, line.generation, line.run_id) for line in lines}
    assert told == {("spot832", scan.path.text, "raw", 1, "run")}


def test_copies_are_deleted_together_or_not_at_all(ledger: Ledger, scan: Scan, copy: CopyRecord) -> None:
    held = ledger.scans.register(beamline="bl832", path=RelativePath("raw/held.h5"))
    ledger.holds.place(held.id, why="paper", who="ada")
    other = _copied(ledger, held, "spot832")
    operation = errand(scan, "delete 2 copies")
    refused = ledger.copies.begin_deletion([Proven(copy=copy), Proven(copy=other)], operation, service="books")
    assert list(refused) == [other.id]
    assert [each.state for each in ledger.copies.among([copy.id, other.id])] == [CopyState.PRESENT] * 2
    assert ledger.operations.among([operation.key]) == []
    assert ledger.audit.of_scan(scan.id) == []


def test_what_one_operation_deletes_no_other_does_until_that_has_ended(
    ledger: Ledger, scan: Scan, copy: CopyRecord
) -> None:
    first, second = errand(scan, "delete at night"), errand(scan, "delete by day")
    assert not ledger.copies.begin_deletion([Proven(copy=copy)], first, service="books")
    assert ledger.copies.of_deletion(first.key) == ledger.copies.of_scan(scan.id)
    assert list(ledger.copies.begin_deletion([Proven(copy=copy)], second, service="books")) == [copy.id]
    ledger.copies.kept(copy)
    assert ledger.copies.of_deletion(first.key) == []
    assert not ledger.copies.begin_deletion([Proven(copy=copy)], second, service="books")


def test_a_deletion_that_had_failed_is_open_again_from_the_moment_it_begins(
    ledger: Ledger, scan: Scan, copy: CopyRecord, books: Books
) -> None:
    operation = errand(scan, fails="the oven is cold")
    with pytest.raises(JobFailed):
        perform(ledger, operation, books, schedule=QUICK)
    assert not ledger.copies.begin_deletion([Proven(copy=copy)], operation, service=books.name, run_id="run")
    record = ledger.operations.get(operation.key)
    assert (record.state, record.attempt, record.run_id) == (OperationState.PLANNED, 2, "run")
    with pytest.raises(JobFailed):
        perform(ledger, operation, books, schedule=QUICK)
    assert ledger.operations.get(operation.key).attempt == 2


@pytest.mark.parametrize("statement", ["update audit set reason = 'never mind'", "delete from audit"])
def test_the_database_itself_keeps_the_audit_as_it_was_written(
    statement: str, ledger: Ledger, ledger_url: str, copy: CopyRecord
) -> None:
    written = ledger.audit.write(copy, Verdict.REFUSED, reason="it is the last copy")
    engine = create_engine(ledger_url.replace("postgresql://", "postgresql+psycopg://"))
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
    assert ledger.audit.of_scan(copy.scan_id) == [written]


def test_an_older_ledger_gets_its_tables_and_keeps_its_copies(tmp_path_factory: pytest.TempPathFactory) -> None:
    from alembic import command
    from alembic.config import Config

    import orchestration.ledger.migrations as migrations
    from orchestration.ledger.database import migrate

    path = tmp_path_factory.mktemp("older") / "ledger.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    settings = Config()
    settings.set_main_option("script_location", str(migrations.__path__[0]))
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0006")
    engine.dispose()
    with sqlite3.connect(path) as database:
        database.execute("insert into scans values ('s', 'bl832', 'raw/a.h5', '', 0, '{}', 1.0)")
        database.execute(
            "insert into copies (scan_id, dataset, endpoint, path, version, role, state, generation, size, files,"
            " manifest, method, verified_at) values"
            " ('s', 'raw', 'spot832', 'raw/a.h5', '', 'original', 'present', 1, 3, 1,"
            ' \'[{"path": "", "size": 3, "checksum": "md5:0"}]\', \'test\', 1.0)'
        )
    database.close()
    migrate(f"sqlite:///{path}")
    with Ledger(f"sqlite:///{path}") as ledger:
        (copy,) = ledger.copies.of_scan("s")
        assert copy.manifest == (FileEvidence(path="", size=3, checksum="md5:0"),)
        ledger.holds.place("s", why="paper", who="ada")
        assert "held" in begun(ledger, copy)
