"""Scans, runs, copies and results."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ledger_world import QUICK, Books, errand, gone

from orchestration.errors import JobFailed, LedgerError, UnknownName
from orchestration.ledger import Ledger
from orchestration.ledger.copy import CopyRecord, CopyState, Role
from orchestration.ledger.database import migrate
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.results import Receipt
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan, scan_identity
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath


def known(ledger: Ledger, path: str, beamline: str = "bl832") -> Scan:
    return ledger.scans.register(beamline=beamline, path=RelativePath(path))


# Scans


def test_a_scan_is_registered_once_whoever_sees_it_first(ledger: Ledger) -> None:
    with Ledger(ledger.url) as other, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: known((ledger, other)[number % 2], "raw/a b/µ'$(x).h5").id, range(16)))
    assert set(ids) == {scan_identity("bl832", RelativePath("raw/a b/µ'$(x).h5"))}
    assert len(ledger.scans.latest()) == 1


def test_registering_again_keeps_what_is_known(ledger: Ledger, scan: Scan) -> None:
    ledger.scans.learn(scan.id, {"proposal": "ALS-1", "projections": 1313})
    ledger.scans.learn(scan.id, {"projections": 1314})
    again = known(ledger, scan.path.text)
    assert again.fingerprint == "1:2"
    assert again.registered_at == scan.registered_at
    assert again.facts == {"proposal": "ALS-1", "projections": 1314}


def test_a_scan_is_found_by_each_of_its_names(ledger: Ledger, scan: Scan) -> None:
    known(ledger, "raw/p1/toothpick.h5")
    known(ledger, "raw/tooth.h5/other.dat")
    for name in (scan.id, scan.id[:8], scan.id[:8].upper(), "raw/p1/tooth.h5", "tooth.h5", "tooth"):
        assert ledger.scans.find(name) == scan, name


@pytest.mark.parametrize("name", ["", "%", "_ooth", "Tooth", "oth.h6", "p1", "raw/p1", "zzzz"])
def test_what_is_no_name_of_a_scan_finds_none(ledger: Ledger, scan: Scan, name: str) -> None:
    with pytest.raises(UnknownName, match="no scan"):
        ledger.scans.find(name)


def test_a_part_of_file_names_finds_the_newest_of_them(ledger: Ledger, scan: Scan) -> None:
    known(ledger, "raw/oot/20261120_demo_1.h5")
    newest = known(ledger, "raw/20261121_demo_2.h5")
    assert ledger.scans.find("demo") == newest
    assert ledger.scans.find("_demo_2") == newest
    assert ledger.scans.find("oot") == scan


def test_too_little_of_an_id_finds_nothing(ledger: Ledger, scan: Scan) -> None:
    with pytest.raises(UnknownName):
        ledger.scans.find(scan.id[:3])


def test_a_file_name_wins_over_the_beginning_of_an_id(ledger: Ledger, scan: Scan) -> None:
    named = known(ledger, f"raw/{scan.id[:6]}.h5")
    assert ledger.scans.find(scan.id[:6]) == named


def test_the_beginning_of_several_ids_is_ambiguous(ledger: Ledger) -> None:
    first: dict[str, str] = {}
    number = 0
    while True:
        start = scan_identity("bl832", RelativePath(f"{number}.h5"))[:4]
        if start in first and not start.isdigit():
            break
        first[start] = f"{number}.h5"
        number += 1
    known(ledger, first[start])
    twin = known(ledger, f"{number}.h5")
    with pytest.raises(UnknownName, match="beginning of 2 scans"):
        ledger.scans.find(start)
    assert ledger.scans.find(twin.id[:13]) == twin


def test_of_several_scans_of_one_name_the_newest_is_found(ledger: Ledger) -> None:
    known(ledger, "monday/tooth.h5")
    newest = known(ledger, "tuesday/tooth.h5")
    assert ledger.scans.find("tooth") == newest
    assert [scan.path.text for scan in ledger.scans.latest()] == ["tuesday/tooth.h5", "monday/tooth.h5"]
    assert ledger.scans.latest(beamline="bl733") == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda ledger: ledger.scans.get("nobody"),
        lambda ledger: ledger.scans.learn("nobody", {}),
        lambda ledger: ledger.runs.carries("nobody", "nobody"),
        lambda ledger: ledger.runs.finish("nobody", RunState.COMPLETED),
        lambda ledger: ledger.copies.get(7),
        lambda ledger: ledger.operations.get("nobody"),
        lambda ledger: ledger.operations.request_cancel("nobody"),
        lambda ledger: ledger.operations.claim("nobody", Owner.here(), redo=True),
    ],
)
def test_what_is_not_known_is_said_to_be_unknown(ledger: Ledger, ask: Callable[[Ledger], object]) -> None:
    with pytest.raises(UnknownName):
        ask(ledger)


# Runs


def test_a_run_is_dead_when_its_process_is_gone_or_its_lease_is_over(ledger_url: str) -> None:
    now = [1000.0]
    here = Owner.here()
    with Ledger(ledger_url, clock=lambda: now[0]) as ledger:
        ledger.runs.begin(run_id="live", flow="f", parameters={"path": "a"}, owner=here)
        ledger.runs.begin(run_id="gone", flow="f", parameters={}, owner=dataclasses.replace(here, pid=gone()))
        ledger.runs.begin(run_id="far", flow="f", parameters={}, owner=Owner("far", 1, "1", "x"))
        ledger.runs.begin(run_id="over", flow="f", parameters={}, owner=here)
        ledger.runs.finish("over", RunState.FAILED, JobFailed("cold", cause="OSError"))
        assert [run.id for run in ledger.runs.dead()] == ["gone"]
        now[0] += 61
        ledger.runs.renew("live")
        assert sorted(run.id for run in ledger.runs.dead()) == ["far", "gone"]
        over = ledger.runs.get("over")
        assert over is not None
        assert isinstance(over.error, JobFailed)
        assert over.error.cause == "OSError"
        assert over.finished_at == 1000.0
        assert ledger.runs.get("nobody") is None


def test_a_run_that_begins_again_runs_again(ledger: Ledger, scan: Scan) -> None:
    ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here())
    ledger.runs.carries("r", scan.id)
    ledger.runs.finish("r", RunState.DEAD)
    ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here())
    (run,) = ledger.runs.of_scan(scan.id)
    assert (run.state, run.finished_at, run.error) == (RunState.RUNNING, None, None)


# Copies


def copied(
    ledger: Ledger, scan: Scan, key: str | None, *, delete_after: float | None = None, size: int = 3
) -> CopyRecord:
    return ledger.copies.record(
        scan_id=scan.id,
        dataset="raw",
        endpoint="data832",
        path=scan.path,
        role=Role.REPLICA,
        manifest=[FileEvidence(path="a", size=size, checksum="md5:0"), FileEvidence(path="b", size=2**40)],
        method="sizes",
        verified_by=key,
        delete_after=delete_after,
    )


def test_a_copy_is_one_however_often_it_is_proved(ledger: Ledger, scan: Scan) -> None:
    first = copied(ledger, scan, None, delete_after=10.0)
    second = copied(ledger, scan, None, delete_after=99.0, size=4)
    assert (second.id, second.generation, second.files, second.size) == (first.id, 1, 2, 2**40 + 4)
    assert second.delete_after == 10.0  # the time of deletion that was set is kept
    assert ledger.copies.get(first.id) == second == ledger.copies.of_scan(scan.id)[0]


def test_the_same_proof_told_again_is_no_younger(ledger: Ledger, scan: Scan, books: Books) -> None:
    made = perform(ledger, errand(scan), books, schedule=QUICK)
    first = copied(ledger, scan, made.record.key)
    assert copied(ledger, scan, made.record.key).verified_at == first.verified_at
    assert copied(ledger, scan, "another").verified_at > first.verified_at


def test_deleting_a_copy_lets_it_be_made_again(ledger: Ledger, scan: Scan, books: Books) -> None:
    made = perform(ledger, errand(scan), books, schedule=QUICK)
    copy = copied(ledger, scan, made.record.key, delete_after=10.0)
    ledger.copies.deleted(copy)

    gone_copy = ledger.copies.get(copy.id)
    assert (gone_copy.state, gone_copy.delete_after) == (CopyState.DELETED, None)
    assert gone_copy.deleted_at is not None
    assert ledger.operations.get(made.record.key).state is OperationState.EXPIRED

    again = perform(ledger, errand(scan), books, schedule=QUICK)
    assert not again.already_done
    assert again.record.attempt == 2
    renewed = copied(ledger, scan, again.record.key, delete_after=20.0)
    assert (renewed.id, renewed.generation, renewed.delete_after) == (copy.id, 2, 20.0)
    assert (renewed.state, renewed.deleted_at) == (CopyState.PRESENT, None)
    assert ledger.copies.at("data832", scan.path) == [renewed]


def test_a_late_word_of_an_earlier_deletion_changes_nothing(ledger: Ledger, scan: Scan, books: Books) -> None:
    made = perform(ledger, errand(scan), books, schedule=QUICK)
    first = copied(ledger, scan, made.record.key)
    ledger.copies.deleted(first)
    perform(ledger, errand(scan), books, schedule=QUICK)
    second = copied(ledger, scan, made.record.key)

    ledger.copies.deleted(first)

    assert ledger.copies.get(first.id) == second
    assert ledger.operations.get(made.record.key).state is OperationState.SUCCEEDED


# Results


def test_an_operation_has_one_result_and_its_receipt_comes_back_whole(ledger: Ledger, scan: Scan, books: Books) -> None:
    made = perform(ledger, errand(scan), books, schedule=QUICK)
    receipt = Receipt(
        inputs=({"dataset": "raw", "size": 2**40, "checksum": None},),
        parameters={"center": 1023.5, "algorithm": "gridrec", "µ": [1, {"a": None}]},
        code_version="1.2.3+gabc",
        environment={"numpy": "2.1"},
        site="nersc",
        job="123",
        timings={"read": 0.5},
        quality={"confidence": 0.9},
    )
    for endpoint in ("there", "here"):
        result = ledger.results.record(
            scan_id=scan.id,
            operation_key=made.record.key,
            kind="rec.tiff",
            endpoint=endpoint,
            path=RelativePath("rec/tooth"),
            receipt=receipt,
        )
    assert (result.receipt, result.endpoint) == (receipt, "here")
    assert ledger.results.of_scan(scan.id) == [result]


def test_a_receipt_of_a_later_version_can_be_read() -> None:
    receipt = Receipt(
        inputs=(), parameters={}, code_version="1", environment={}, site="s", job="j", timings={}, quality={}
    )
    assert Receipt.from_document({**receipt.document(), "weather": "fine"}) == receipt


# Operations


def test_operations_are_found_by_scan_and_by_run_in_their_order(ledger: Ledger, scan: Scan, books: Books) -> None:
    for name in ("a", "b", "c"):
        perform(ledger, errand(scan, name), books, run_id=f"run-{name > 'a'}", schedule=QUICK)
    ledger.operations.plan(errand(scan, "d"), service=books.name)
    assert [record.step for record in ledger.operations.of_scan(scan.id)] == ["do a", "do b", "do c", "do d"]
    assert [record.step for record in ledger.operations.of_run("run-True")] == ["do b", "do c"]
    assert [record.step for record in ledger.operations.open()] == ["do d"]


def test_the_history_only_grows(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, fails="cold")
    seen: list[object] = []
    for attempt in (1, 2, 3):
        with pytest.raises(JobFailed):
            perform(ledger, operation, books, schedule=QUICK)
        history = list(ledger.operations.history(operation.key))
        assert history[: len(seen)] == seen
        assert {event.attempt for event in history[len(seen) :]} == {attempt}
        seen = list(history)


def test_what_is_planned_can_be_planned_again(ledger: Ledger, scan: Scan) -> None:
    first = ledger.operations.plan(errand(scan), service="s")
    assert ledger.operations.plan(errand(scan), service="s") == first
    assert first.seconds is None


def test_copies_of_the_same_files_share_one_manifest(ledger: Ledger, scan: Scan) -> None:
    first = copied(ledger, scan, None)
    ledger.copies.record(
        scan_id=scan.id,
        dataset="raw",
        endpoint="nersc832",
        path=scan.path,
        role=Role.REPLICA,
        manifest=first.manifest,
        method="sizes",
        verified_by=None,
    )
    one, other = ledger.copies.of_scan(scan.id)
    assert one.manifest == first.manifest
    assert other.manifest is one.manifest


def test_a_list_of_many_files_is_kept_apart_from_its_operation(ledger: Ledger) -> None:
    few: Document = {"manifest": [{"path": "a", "size": 1}], "files": 1}
    many: Document = {"manifest": [{"path": f"{number}", "size": number} for number in range(5000)], "files": 5000}
    assert ledger.manifests.shelve(few) == few
    shelved = ledger.manifests.shelve(many)
    assert len(str(shelved)) < 200
    assert list(ledger.manifests.listed(shelved)) == list(ledger.manifests.listed(many)) == many["manifest"]
    assert list(ledger.manifests.listed(few)) == few["manifest"]
    assert list(ledger.manifests.listed({})) == []


@pytest.mark.parametrize("damage", ["update manifests set body = x'00'", "update manifests set digest = 'x'"])
def test_a_damaged_manifest_proves_nothing(tmp_path: Path, damage: str) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    with Ledger(url) as ledger:
        copy = copied(ledger, known(ledger, "raw/a.h5"), None)
        with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
            database.execute(damage)
        database.close()
        with pytest.raises(LedgerError, match=r"lists? of files"):
            ledger.copies.get(copy.id)
