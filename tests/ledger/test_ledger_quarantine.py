"""Copies in quarantine: what the ledger knows of them, and what it lets nobody do."""

from __future__ import annotations

import pytest
from ledger_world import QUICK, Books, errand

from orchestration.errors import InvalidInput
from orchestration.ledger import Ledger
from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyRecord, CopyState, Proven, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import OperationState
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath

ASIDE = RelativePath(".quarantine/2026-11-29/1-1/scan.h5")


def recorded(ledger: Ledger, scan: Scan, *, version: str = "1", verified_by: str | None = None) -> CopyRecord:
    return ledger.copies.record(
        scan_id=scan.id,
        dataset="raw",
        endpoint="spot832",
        path=scan.path,
        role=Role.REPLICA,
        manifest=[FileEvidence(path="", size=3, checksum="md5:0")],
        method="test",
        verified_by=verified_by,
        version=version,
    )


def begun(ledger: Ledger, scan: Scan, copy: CopyRecord, *, step: str = "set aside", aside: bool = True) -> str:
    """Begin to set it aside, or to delete it; why it cannot be, or nothing."""
    refused = ledger.copies.begin_deletion(
        [Proven(copy=copy)], errand(scan, step), service="books", aside=ASIDE if aside else None
    )
    return "".join(why.what for why in refused.values())


def set_aside(ledger: Ledger, scan: Scan, copy: CopyRecord) -> CopyRecord:
    assert begun(ledger, scan, copy) == ""
    ledger.quarantine.entered(copy, delete_after=5000.0, run_id="run")
    return ledger.copies.get(copy.id)


def test_it_lies_in_quarantine_once_and_what_made_it_may_be_asked_for_again(
    ledger: Ledger, scan: Scan, books: Books
) -> None:
    made = perform(ledger, errand(scan, "copy"), books, schedule=QUICK).record
    copy = recorded(ledger, scan, verified_by=made.key)
    aside = set_aside(ledger, scan, copy)
    ledger.quarantine.entered(copy, delete_after=9000.0)  # told again by a run that was repeated
    assert ledger.copies.get(copy.id) == aside
    assert (aside.state, aside.path, aside.lies_at) == (CopyState.QUARANTINED, scan.path, ASIDE)
    assert (aside.goes_with, aside.delete_after) == (ASIDE.parent, 5000.0)
    assert ledger.operations.get(made.key).state is OperationState.EXPIRED
    told = ledger.audit.of_scan(scan.id)
    assert [line.verdict for line in told] == [Verdict.PROVED, Verdict.QUARANTINED]
    assert told[1].evidence == {"path": ASIDE.text, "until": 5000.0}
    for place in (scan.path, ASIDE):
        assert ledger.copies.at("spot832", place) == [aside]
    assert ledger.copies.due(6000.0, after=0, limit=9) == [aside]


def test_what_another_run_has_set_aside_is_not_set_aside_again(ledger: Ledger, scan: Scan) -> None:
    seen = recorded(ledger, scan)
    aside = set_aside(ledger, scan, seen)
    for step, place in (("set aside", True), ("delete", False)):
        assert "while its deletion was being proved" in begun(ledger, scan, seen, step=step, aside=place)
    assert ledger.copies.get(seen.id) == aside


def test_a_hold_on_a_scan_keeps_the_folder_in_quarantine_that_has_its_files(ledger: Ledger) -> None:
    folder, file = (ledger.scans.register(beamline="bl832", path=RelativePath(each)) for each in ("raw/p", "raw/p/a"))
    inside = recorded(ledger, file)
    aside = set_aside(ledger, folder, recorded(ledger, folder))
    assert ledger.copies.found(inside, CopyState.MISSING, why="it is not there any more")
    ledger.holds.place(file.id, why="paper", who="ada")
    assert "held by ada" in begun(ledger, folder, aside, step="delete", aside=False)
    ledger.holds.release(file.id, who="ada")
    assert begun(ledger, folder, aside, step="delete", aside=False) == ""


def test_what_could_not_be_set_aside_is_where_it_was_and_what_could_not_be_deleted_is_in_quarantine(
    ledger: Ledger, scan: Scan
) -> None:
    copy = recorded(ledger, scan)
    assert begun(ledger, scan, copy) == ""
    ledger.copies.kept(copy)
    assert ledger.copies.get(copy.id) == copy
    aside = set_aside(ledger, scan, copy)
    assert begun(ledger, scan, aside, step="delete", aside=False) == ""
    assert ledger.copies.get(copy.id).state is CopyState.DELETING
    ledger.copies.kept(aside)
    assert ledger.copies.get(copy.id) == aside


def test_a_copy_that_is_made_anew_leaves_the_one_in_quarantine_alone(ledger: Ledger, scan: Scan) -> None:
    old = set_aside(ledger, scan, recorded(ledger, scan))
    new = recorded(ledger, scan)
    assert (new.generation, new.state, new.quarantine_path) == (2, CopyState.PRESENT, None)
    left = ledger.copies.get(old.id)
    assert (left.state, left.path, left.lies_at, left.generation) == (CopyState.QUARANTINED, ASIDE, ASIDE, 1)
    assert ledger.copies.at("spot832", scan.path) == [new]
    assert recorded(ledger, scan).id == new.id
    ledger.copies.deleted(left)
    assert ledger.copies.get(new.id).state is CopyState.PRESENT


def test_another_version_does_not_take_the_row_of_one_that_is_on_its_way(ledger: Ledger, scan: Scan) -> None:
    old = recorded(ledger, scan)
    assert begun(ledger, scan, old) == ""
    assert recorded(ledger, scan).state is CopyState.DELETING  # its old proof, told again
    new = recorded(ledger, scan, version="2")
    assert (new.generation, new.state) == (2, CopyState.PRESENT)
    left = ledger.copies.get(old.id)
    assert (left.state, left.path) == (CopyState.DELETING, ASIDE)
    assert left.set_aside
    ledger.quarantine.entered(left, delete_after=5000.0)
    assert [each.state for each in ledger.copies.of_scan(scan.id)] == [CopyState.QUARANTINED, CopyState.PRESENT]


def test_what_was_deleted_from_quarantine_and_is_made_again_is_not_in_quarantine(ledger: Ledger, scan: Scan) -> None:
    old = set_aside(ledger, scan, recorded(ledger, scan))
    assert begun(ledger, scan, old, step="delete", aside=False) == ""
    ledger.copies.deleted(old)
    new = recorded(ledger, scan)
    assert (new.id, new.generation, new.state) == (old.id, 2, CopyState.PRESENT)
    assert (new.quarantined_at, new.quarantine_path, new.lies_at) == (None, None, scan.path)


def test_what_is_being_brought_back_is_not_deleted_and_counts_as_made_anew(ledger: Ledger, scan: Scan) -> None:
    aside = set_aside(ledger, scan, recorded(ledger, scan))
    ledger.quarantine.begin_return(aside, errand(scan, "restore"), service="books")
    assert "made anew" in begun(ledger, scan, aside, step="delete", aside=False)
    with pytest.raises(InvalidInput, match="brought back"):
        ledger.quarantine.begin_return(aside, errand(scan, "restore twice"), service="books")
    ledger.quarantine.left(aside, delete_after=9000.0, who="ada")
    ledger.quarantine.left(aside, delete_after=9999.0, who="bob")
    back = ledger.copies.get(aside.id)
    assert (back.state, back.generation, back.lies_at, back.delete_after) == (CopyState.PRESENT, 2, scan.path, 9000.0)
    assert (back.verified_at, back.manifest, back.method) == (aside.verified_at, aside.manifest, aside.method)
    restored = [line for line in ledger.audit.of_scan(scan.id) if line.verdict is Verdict.RESTORED]
    assert [line.reason for line in restored] == ["by ada"]


def test_what_was_not_brought_back_may_be_deleted_and_what_is_being_deleted_is_not_brought_back(
    ledger: Ledger, scan: Scan
) -> None:
    aside = set_aside(ledger, scan, recorded(ledger, scan))
    ledger.quarantine.begin_return(aside, errand(scan, "restore"), service="books")
    ledger.quarantine.stays(aside)
    assert begun(ledger, scan, aside, step="delete", aside=False) == ""
    with pytest.raises(InvalidInput, match="being deleted"):
        ledger.quarantine.begin_return(aside, errand(scan, "restore"), service="books")
