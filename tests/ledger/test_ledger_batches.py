"""Batches: made once, marked by many at once, retried with what they were made with, and shown."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, inspect

from orchestration.cli import beamline
from orchestration.errors import JobFailed, LedgerOutdated, UnknownName
from orchestration.ledger import Ledger, database
from orchestration.ledger.batches import BatchItem, BatchRecord, ItemState
from orchestration.ledger.database import migrate
from orchestration.ledger.operation import error_document
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document

BAD = JobFailed("exit code 1: no frame is whole", where="polaris", next_step="look at the raw file", cause="OSError")


def begun(
    ledger: Ledger,
    names: tuple[str, ...] = ("b/2", "a/1", "c/3"),
    *,
    id: str = "batch-0123456789",
    run: str = "r1",
    **more: str,
) -> BatchRecord:
    items: Mapping[str, Document] = {name: {"raw": f"2026-1/{name}.h5", **more} for name in names}
    return ledger.batches.begin(
        id=id,
        flow="aps8idi_batch",
        beamline="aps8idi",
        name="2026-1/smith",
        parameters={"type": "Multitau", **more},
        run_id=run,
        items=items,
    )


def ended(ledger: Ledger, scan: Scan) -> BatchRecord:
    """One item is done, one has failed, one waits."""
    batch = begun(ledger)
    for name in ("b/2", "a/1"):
        ledger.batches.take(batch.id, name, scan_id=scan.id)
    ledger.batches.fail(batch.id, "b/2", BAD)
    ledger.batches.done(batch.id, "a/1", evidence={"results": "eagle:rec/1"})
    return batch


def item(ledger: Ledger, batch: BatchRecord, name: str) -> BatchItem:
    return next(each for each in ledger.batches.items(batch.id) if each.name == name)


def told(item: BatchItem) -> object:
    """All of an item; an error is equal to itself alone."""
    return dataclasses.replace(item, error=None), None if item.error is None else error_document(item.error)


def states(ledger: Ledger, batch: BatchRecord) -> dict[str, str]:
    return {each.name: each.state.value for each in ledger.batches.items(batch.id)}


def test_a_batch_that_is_begun_again_goes_on_with_its_own_inputs(ledger: Ledger, scan: Scan) -> None:
    first = ended(ledger, scan)
    before = ledger.batches.items(first.id)
    assert [(each.name, each.position, each.parameters) for each in before] == [
        ("b/2", 0, {"raw": "2026-1/b/2.h5"}),
        ("a/1", 1, {"raw": "2026-1/a/1.h5"}),
        ("c/3", 2, {"raw": "2026-1/c/3.h5"}),
    ]

    again = begun(ledger, ("a/1", "d/4"), run="r2", smooth="dqmap")

    assert (again.run_id, again.parameters, again.created_at) == ("r2", {"type": "Multitau"}, first.created_at)
    assert list(map(told, ledger.batches.items(first.id))) == list(map(told, before))
    assert ledger.batches.get(first.id) == again


def test_an_item_that_is_taken_up_after_a_crash_is_in_the_same_attempt(ledger: Ledger, scan: Scan) -> None:
    batch = begun(ledger)
    for _ in range(2):
        ledger.batches.take(batch.id, "a/1", scan_id=scan.id)
    taken = item(ledger, batch, "a/1")
    assert (taken.state, taken.attempts, taken.scan_id) == (ItemState.RUNNING, 1, scan.id)
    assert states(ledger, batch) == {"b/2": "waiting", "a/1": "running", "c/3": "waiting"}


def test_a_retry_lets_the_failed_items_wait_again_and_no_others(ledger: Ledger, scan: Scan) -> None:
    batch = ended(ledger, scan)
    ledger.batches.take(batch.id, "c/3", scan_id=scan.id)
    other = begun(ledger, id="another")
    ledger.batches.take(other.id, "a/1", scan_id=scan.id)
    ledger.batches.fail(other.id, "a/1", BAD)
    untouched = [item(ledger, batch, name).updated_at for name in ("a/1", "c/3")]

    assert ledger.batches.retry(batch.id) == ["b/2"]
    assert ledger.batches.retry(batch.id) == []

    again = item(ledger, batch, "b/2")
    assert (again.state, again.error, again.attempts) == (ItemState.WAITING, None, 1)
    assert again.parameters == {"raw": "2026-1/b/2.h5"}
    assert states(ledger, batch) == {"b/2": "waiting", "a/1": "done", "c/3": "running"}
    assert [item(ledger, batch, name).updated_at for name in ("a/1", "c/3")] == untouched
    assert states(ledger, other)["a/1"] == "failed"

    ledger.batches.take(batch.id, "b/2", scan_id=scan.id)
    assert item(ledger, batch, "b/2").attempts == 2
    assert ledger.batches.counts(batch.id) == {"waiting": 0, "running": 2, "done": 1, "failed": 0}


def test_why_an_item_failed_comes_back_typed_and_goes_when_it_is_taken_up(ledger: Ledger, scan: Scan) -> None:
    batch = ended(ledger, scan)
    error = item(ledger, batch, "b/2").error
    assert isinstance(error, JobFailed)
    assert (error.sentence, error.cause) == (BAD.sentence, "OSError")
    assert item(ledger, batch, "a/1").evidence == {"results": "eagle:rec/1"}

    ledger.batches.take(batch.id, "b/2", scan_id=scan.id)
    assert item(ledger, batch, "b/2").error is None


def test_many_that_mark_items_at_once_lose_nothing(ledger: Ledger, scan: Scan) -> None:
    names = tuple(f"d/{number:03}" for number in range(30))
    batch = begun(ledger, names)
    with Ledger(ledger.url) as other, ThreadPoolExecutor(12) as pool:

        def one(number: int) -> None:
            mine = (ledger, other)[number % 2].batches
            mine.take(batch.id, names[number], scan_id=scan.id)
            if number % 3:
                mine.done(batch.id, names[number], evidence={"number": number})
            else:
                mine.fail(batch.id, names[number], JobFailed(f"number {number}"))

        list(pool.map(one, range(30)))
    found = ledger.batches.items(batch.id)
    assert [each.name for each in found] == list(names)
    assert {each.attempts for each in found} == {1}
    assert [each.evidence for each in found] == [{"number": n} if n % 3 else None for n in range(30)]
    assert [each.error and each.error.what for each in found] == [None if n % 3 else f"number {n}" for n in range(30)]


def test_two_runs_that_begin_a_batch_at_once_make_one(ledger: Ledger) -> None:
    names = tuple(f"d/{number}" for number in range(2000))
    with Ledger(ledger.url) as other, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: begun(each[1], names, run=each[0]), [("r1", ledger), ("r2", other)]))
    assert ledger.batches.counts("batch-0123456789")[ItemState.WAITING] == 2000
    assert len(ledger.batches.latest()) == 1


def test_a_batch_is_found_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    whole, longer, other = (begun(ledger, id=id) for id in ("abcd", "abcdef", "abcdeg"))
    assert ledger.batches.get("abcd") == whole
    assert ledger.batches.get("abcdef") == longer
    assert [batch.id for batch in ledger.batches.latest(limit=2)] == [other.id, longer.id]
    with pytest.raises(UnknownName, match="beginning of 2 batches"):
        ledger.batches.get("abcde")
    for unknown in ("abc", "abcd_", "%bcd", ""):
        with pytest.raises(UnknownName, match="no batch"):
            ledger.batches.get(unknown)
    begun(ledger, id="wxyz-1")
    assert ledger.batches.get("wxyz").id == "wxyz-1"


def test_what_is_not_known_is_said_to_be_unknown(ledger: Ledger, scan: Scan) -> None:
    batches, id = ledger.batches, begun(ledger).id
    asks: list[Callable[[], object]] = [
        lambda: batches.items("nobody"),
        lambda: batches.counts("nobody"),
        lambda: batches.retry("nobody"),
        lambda: batches.take("nobody", "a/1", scan_id=scan.id),
        lambda: batches.take(id, "a/1", scan_id="nobody"),
        lambda: batches.done(id, "nobody", evidence={}),
        lambda: batches.fail(id, "nobody", BAD),
    ]
    for ask in asks:
        with pytest.raises(UnknownName, match="nobody"):
            ask()


def test_a_ledger_of_the_version_before_gets_batches_and_loses_nothing(
    ledger: Ledger, ledger_url: str, scan: Scan
) -> None:
    settings = Config()
    settings.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    engine = create_engine(ledger_url)
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.downgrade(settings, "0005")
        assert not {"batches", "batch_items"} & set(inspect(connection).get_table_names())
    engine.dispose()
    with pytest.raises(LedgerOutdated, match="beamline ledger migrate"):
        Ledger(ledger_url)
    migrate(ledger_url)
    assert ledger.scans.get(scan.id) == scan
    assert ledger.batches.counts(ended(ledger, scan).id)[ItemState.DONE] == 1


# The command


@pytest.fixture
def shown(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`beamline batches`, where its settings lead to the ledger of the test."""
    (tmp_path / "config.yml").write_text(f"ledger:\n  url: {ledger.url}\n")
    monkeypatch.chdir(tmp_path)

    def show(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(beamline, ["batches", *arguments])
        assert result.exit_code == code, result.output
        return result

    return show


def test_the_list_tells_how_batches_stand(ledger: Ledger, scan: Scan, shown: Callable[..., Result]) -> None:
    assert shown().stdout.startswith("No batches yet. ")
    batch = ended(ledger, scan)
    head, line = (each.split() for each in shown().stdout.splitlines())
    assert head == ["batch", "since", "waiting", "running", "done", "failed", "flow", "name"]
    assert (line[0], line[4:]) == ("batch-01", ["1", "0", "1", "1", "aps8idi_batch", "2026-1/smith"])
    (found,) = json.loads(shown("--json").stdout)
    assert found["id"] == batch.id
    assert found["counts"] == {"waiting": 1, "running": 0, "done": 1, "failed": 1}


def test_a_batch_tells_of_each_item_how_it_stands_and_why(
    ledger: Ledger, scan: Scan, shown: Callable[..., Result]
) -> None:
    ended(ledger, scan)
    lines = shown("batch-0").stdout.splitlines()
    assert [line.split()[:3] for line in lines[4:7]] == [
        ["failed", "1", "b/2"],
        ["done", "1", "a/1"],
        ["waiting", "0", "c/3"],
    ]
    assert lines[4].endswith(BAD.sentence)
    assert lines[-1] == "3 items: 1 waiting, 1 done, 1 failed"
    found = json.loads(shown("batch-0", "--json").stdout)
    assert [each["parameters"]["raw"] for each in found["items"]] == [f"2026-1/{n}.h5" for n in ("b/2", "a/1", "c/3")]
    assert found["items"][0]["error"]["type"] == "JobFailed"
    assert found["items"][1]["evidence"] == {"results": "eagle:rec/1"}


def test_the_failed_items_alone_are_shown_in_each_form(
    ledger: Ledger, scan: Scan, shown: Callable[..., Result]
) -> None:
    ended(ledger, scan)
    page = shown("batch-0", "--failed").stdout
    assert BAD.sentence in page
    assert "a/1" not in page
    assert "3 items" in page
    assert [each["name"] for each in json.loads(shown("batch-0", "--failed", "--json").stdout)["items"]] == ["b/2"]
    table = shown("batch-0", "--failed", "--csv").stdout
    assert list(csv.DictReader(io.StringIO(table))) == [
        {
            "name": "b/2",
            "state": "failed",
            "attempts": "1",
            "error": "exit code 1: no frame is whole (polaris)",
            "next_step": "look at the raw file",
        }
    ]


def test_a_table_has_a_line_for_each_item_whatever_its_error_says(
    ledger: Ledger, scan: Scan, shown: Callable[..., Result]
) -> None:
    batch = ended(ledger, scan)
    ledger.batches.fail(batch.id, "c/3", JobFailed('two\nlines, and "quotes"', next_step="look"))
    rows = list(csv.reader(io.StringIO(shown(batch.id, "--csv").stdout)))
    assert rows[0] == ["name", "state", "attempts", "error", "next_step"]
    assert rows[2:] == [["a/1", "done", "1", "", ""], ["c/3", "failed", "0", 'two\nlines, and "quotes"', "look"]]
    assert 'two lines, and "quotes". Next: look.' in shown(batch.id).stdout


def test_what_cannot_be_shown_is_said(ledger: Ledger, shown: Callable[..., Result]) -> None:
    assert "no batch 'nobody'" in shown("nobody", code=1).stderr
    assert "of one batch" in shown("--csv", code=2).stderr
    assert "together" in shown("nobody", "--csv", "--json", code=2).stderr
