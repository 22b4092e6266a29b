"""The last copy of anything is never deleted, whatever was written over what, and whoever asks twice."""

from __future__ import annotations

import os
import sqlite3
import time

import pytest
from retention_bench import DAY, Bench

from orchestration.errors import DeletionUnproven
from orchestration.ledger.copy import RAW, CopyRecord, CopyState, Role
from orchestration.ledger.operation import Operation
from orchestration.ledger.results import Receipt
from orchestration.paths import RelativePath
from orchestration.retention import Finding, Known, survey
from orchestration.transfers import DeleteRequest

TWO = {"any_of": ["server", "server_raw", "archive"], "min_copies": 2}


def test_a_copy_with_a_whole_witness_is_proved(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    assert [witness.copy.endpoint for witness in bench.prove(original).witnesses] == ["server"]


@pytest.mark.parametrize("content", [b"another", b"else"], ids=["longer", "of the same length"])
def test_a_file_that_was_acquired_again_under_the_same_name_is_kept(bench: Bench, content: bytes) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    bench.file("source").write_bytes(content)  # within the slack that clocks are given
    with pytest.raises(DeletionUnproven, match=r"anew|not what was verified"):
        bench.prove(original)


def test_a_replica_that_was_written_over_is_kept(bench: Bench) -> None:
    copy = bench.put("source")
    bench.put("server")
    bench.file("source").write_bytes(b"else")
    os.utime(bench.file("source"), (time.time() + 3600, time.time() + 3600))
    with pytest.raises(DeletionUnproven, match="changed after it was verified"):
        bench.prove(copy)


def test_what_is_left_of_an_interrupted_deletion_may_go(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    bench.file("source").unlink()
    assert bench.prove(original).witnesses


def test_one_file_under_two_names_is_one_witness(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    bench.put("server_raw", path=RelativePath("p/scan.h5"))
    with pytest.raises(DeletionUnproven, match=r"2 verified copies are needed.*1 proved.*same storage"):
        bench.prove(original, requires=TWO)
    bench.put("archive")
    assert len(bench.prove(original, requires=TWO).witnesses) == 2


def test_a_copy_that_is_made_anew_while_its_deletion_is_proved_is_kept(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    witness = bench.put("server")
    bench.put("source", b"a longer scan", role=Role.ORIGINAL)
    assert "made anew" in bench.begin(original, witness)
    assert bench.ledger.copies.get(original.id).state is CopyState.PRESENT


def test_a_copy_that_is_being_deleted_is_no_witness_again_because_its_old_proof_is_told_again(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    witness = bench.put("server")
    assert not bench.begin(witness, original)
    bench.put("server")
    assert bench.ledger.copies.get(witness.id).state is CopyState.DELETING
    with pytest.raises(DeletionUnproven):
        bench.prove(original)


def test_the_same_folder_behind_a_link_is_the_same_storage(bench: Bench, tmp_path: os.PathLike[str]) -> None:
    server = bench.endpoint("server")
    link = server.mount.parent / "link" if server.mount else None
    assert link is not None
    link.symlink_to("server")
    assert server.shares_storage_with(server.model_copy(update={"mount": link, "root_path": "/elsewhere"}))


def test_checksums_that_are_old_are_computed_again_and_count_anew(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    before = bench.put("server")
    assert bench.prove(original, evidence_days=30).witnesses
    assert bench.eyes.computed == []
    (witness,) = bench.prove(original, evidence_days=30, days_later=31).witnesses
    assert bench.eyes.computed == ["server"]
    assert witness.copy.evidence_at > before.evidence_at
    assert witness.copy.method == "sha256 computed again"


def test_a_flipped_bit_that_no_look_sees_is_found_by_the_checksum(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    file = bench.file("server")
    facts = file.stat()
    file.write_bytes(b"sc\xe1n"[:4])
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert bench.prove(original).witnesses  # nothing to see
    with pytest.raises(DeletionUnproven, match="checksums are 0 days old: its sha256 checksums are not what they were"):
        bench.prove(original, evidence_days=0)


def test_no_checksum_is_computed_where_younger_ones_are_enough(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    old = bench.put("server")
    bench.put("archive")
    with sqlite3.connect(bench.ledger.url.removeprefix("sqlite:///")) as database:
        database.execute("update copies set verified_at = verified_at - 1e6 where id = ?", (old.id,))
    database.close()
    os.utime(bench.file("server"), (1.0, 1.0))
    (witness,) = bench.prove(original, evidence_days=5).witnesses
    assert witness.copy.endpoint == "archive"
    assert bench.eyes.computed == []


def test_a_place_that_cannot_be_looked_at_proves_nothing_and_keeps_no_other_from_it(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    server = bench.file("server").parents[2]
    server.rename(server.with_name("unmounted"))
    with pytest.raises(DeletionUnproven, match=r"server: it cannot be looked at: .* is not there"):
        bench.prove(original)
    bench.put("archive")
    assert [witness.copy.endpoint for witness in bench.prove(original).witnesses] == ["archive"]


def test_a_copy_whose_scan_must_be_catalogued_is_kept_until_it_is(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    with pytest.raises(DeletionUnproven, match="catalogue does not have its scan"):
        bench.prove(original, catalogued=True)
    bench.eyes.catalogue.add(bench.scan.id)
    assert bench.prove(original, catalogued=True).witnesses


@pytest.mark.parametrize("state", [CopyState.CHANGED, CopyState.MISSING])
def test_what_was_found_to_be_changed_or_missing_proves_nothing_and_is_not_deleted(
    bench: Bench, state: CopyState
) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    server = bench.put("server")
    assert bench.ledger.copies.found(server, state)
    assert not bench.ledger.copies.found(server, state)  # no news
    with pytest.raises(DeletionUnproven, match=r"0 proved: server: it is not"):
        bench.prove(original)
    assert bench.ledger.copies.found(server, CopyState.PRESENT)
    assert bench.prove(original).witnesses
    assert bench.ledger.copies.found(original, state)
    with pytest.raises(DeletionUnproven, match=r"missing|not what was verified"):
        bench.prove(bench.ledger.copies.get(original.id))


RESULT = RelativePath("rec/scan.zarr")


def result(bench: Bench, **change: object) -> CopyRecord:
    """A result at the source, with its receipt, and the raw data that it was made of at the source, too."""
    raw = bench.put("source", role=Role.ORIGINAL)
    copy = bench.put("source", b"result", role=Role.CACHE, path=RESULT, dataset="rec.zarr")
    receipt(bench, RESULT, raw, change)
    return copy


def receipt(bench: Bench, path: RelativePath, made_of: CopyRecord, change: dict[str, object] | None = None) -> None:
    """Of the result at that path of the source."""
    taken: dict[str, object] = {
        "dataset": made_of.dataset,
        "endpoint": made_of.endpoint,
        "path": made_of.path.text,
        "size": made_of.size,
        "checksum": made_of.manifest[0].checksum,
    }
    operation = Operation(
        scan=bench.scan,
        step="reconstruct",
        request=DeleteRequest(endpoint=bench.endpoint("source"), paths=(path,)),  # any request will do
        destination=bench.endpoint("source").place,
        deadline=60.0,
    )
    bench.ledger.operations.plan(operation, service="local.jobs")
    bench.ledger.results.record(
        scan_id=bench.scan.id,
        operation_key=operation.key,
        kind="tomography",
        endpoint="source",
        path=path,
        receipt=Receipt(
            inputs=({**taken, **(change or {})},),  # type: ignore[dict-item]
            parameters={},
            code_version="1",
            environment={},
            site="local",
            job="1",
            timings={},
            quality={},
        ),
    )


def test_a_result_may_go_if_what_it_was_made_of_is_kept(bench: Bench) -> None:
    copy = result(bench)
    with pytest.raises(DeletionUnproven, match="verified copy is needed"):
        bench.prove(copy)
    with pytest.raises(DeletionUnproven, match="cannot be made again: raw, of which it was made"):
        bench.prove(copy, recreatable=True)
    bench.put("server")
    proof = bench.prove(copy, recreatable=True)
    assert [(each.copy.dataset, each.copy.endpoint) for each in proof.witnesses] == [(RAW, "server")]
    assert proof.recreated_by is not None
    assert proof.document()["receipt"] == proof.recreated_by


@pytest.mark.parametrize("change", [{"size": 5}, {"checksum": "sha256:0"}, {"path": "raw/p/other.h5"}])
def test_a_result_of_another_version_of_its_scan_cannot_be_made_again(bench: Bench, change: dict[str, object]) -> None:
    copy = result(bench, **change)
    bench.put("server")
    with pytest.raises(DeletionUnproven, match="is not what it was"):
        bench.prove(copy, recreatable=True)


def test_a_result_without_a_receipt_cannot_be_made_again(bench: Bench) -> None:
    bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    copy = bench.put("source", b"result", role=Role.CACHE, path=RESULT, dataset="rec.zarr")
    with pytest.raises(DeletionUnproven, match="no receipt"):
        bench.prove(copy, recreatable=True)


PICTURES = RelativePath("rec/scan.png")


def nightly(bench: Bench, copy: CopyRecord, *, recreatable: bool = True) -> list[Finding]:
    """What a night finds of it, whose timer is lost."""
    bench.ledger.copies.schedule_all([(copy, 0.0)])
    change = {"recreatable": recreatable}
    rules = {"source": bench.settings.retention["source"].model_copy(update=change)}
    settings = bench.settings.model_copy(update={"retention": rules})
    before = bench.ledger.now() + DAY
    scans = bench.ledger.due.scans(before)
    found = survey(scans, settings=settings, days=lambda _: 0.0, known=Known(), before=before)
    return [each.finding for each in found if each.row.id == copy.id]


@pytest.mark.parametrize("kept", [True, False])
def test_a_night_finds_what_was_made_of_a_result_that_is_kept(bench: Bench, kept: bool) -> None:
    """Not of raw data: of those there may be no copy any more."""
    middle = bench.put("source", b"result", role=Role.CACHE, path=RESULT, dataset="rec.zarr")
    pictures = bench.put("source", b"pictures", role=Role.CACHE, path=PICTURES, dataset="pictures")
    receipt(bench, PICTURES, middle)
    if kept:
        bench.put("archive", b"result", path=RESULT, dataset="rec.zarr")
    else:
        bench.put("archive", b"scan")
    assert nightly(bench, pictures) == [Finding.DUE if kept else Finding.UNPROVEN]
    assert nightly(bench, pictures, recreatable=False) == [Finding.UNPROVEN]
    if kept:
        assert bench.prove(pictures, recreatable=True).recreated_by is not None
    else:
        with pytest.raises(DeletionUnproven, match="cannot be made again"):
            bench.prove(pictures, recreatable=True)


@pytest.mark.parametrize("change", [{}, {"size": 5}, {"dataset": None}])
def test_a_night_tries_a_result_only_if_what_it_was_made_of_is_kept_as_it_was(
    bench: Bench, change: dict[str, object]
) -> None:
    copy = result(bench, **change)
    assert nightly(bench, copy) == [Finding.UNPROVEN]
    bench.put("server")
    assert nightly(bench, copy) == [Finding.UNPROVEN if change else Finding.DUE]


def test_what_lies_in_quarantine_is_proved_as_it_lies_there(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    aside = bench.set_aside(original)
    bench.file("source").write_bytes(b"the next scan")  # under its old name: that one is not asked about
    assert bench.prove(aside).witnesses
    bench.file("source", aside.lies_at).write_bytes(b"else")
    with pytest.raises(DeletionUnproven, match="anew"):
        bench.prove(aside)
    bench.file("source", aside.lies_at).unlink()
    assert bench.prove(aside).witnesses
    (bench.file("source", aside.lies_at).parent / "notes").write_text("precious")
    with pytest.raises(DeletionUnproven, match="not what was verified"):
        bench.prove(aside)


def test_a_copy_in_quarantine_is_no_witness(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.set_aside(bench.put("server"))
    with pytest.raises(DeletionUnproven, match="server: that copy is in quarantine"):
        bench.prove(original)


def test_a_night_leaves_alone_what_has_time_in_quarantine_also_if_that_was_made_longer(bench: Bench) -> None:
    copy = bench.put("source")
    bench.put("server")
    aside = bench.set_aside(copy)
    before = bench.ledger.now() + 2 * DAY

    def findings(grace_days: float) -> list[Finding]:
        rules = {"source": bench.settings.retention["source"].model_copy(update={"grace_days": grace_days})}
        settings = bench.settings.model_copy(update={"retention": rules})
        scans = bench.ledger.due.scans(before)
        found = survey(scans, settings=settings, days=lambda _: 0.0, known=Known(), before=before)
        return [each.finding for each in found if each.row.id == aside.id]

    assert findings(1.0) == [Finding.DUE]
    assert findings(30.0) == [Finding.KEPT]
