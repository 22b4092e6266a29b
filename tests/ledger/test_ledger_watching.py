"""What the inventory found, how far it is, and what people were told, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledger_world import QUICK, Books, errand

from orchestration.ledger import Ledger
from orchestration.ledger.copy import CopyRecord, CopyState, Role
from orchestration.ledger.inventory import UnknownFolder
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.notices import NoticeKind
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath


@pytest.fixture
def later(ledger_url: str) -> Iterator[Ledger]:
    """The same ledger, in the year 2100."""
    with Ledger(ledger_url, clock=lambda: 4.1e9) as ledger:
        yield ledger


def copied(
    ledger: Ledger,
    scan: Scan,
    endpoint: str = "server",
    path: str = "raw/p1/tooth.h5",
    *,
    verified_by: str | None = None,
    verified_at: float | None = None,
) -> CopyRecord:
    return ledger.copies.record(
        scan_id=scan.id,
        dataset="raw",
        endpoint=endpoint,
        path=RelativePath(path),
        role=Role.REPLICA,
        manifest=[FileEvidence(path="", size=3, checksum="md5:0")],
        method="test",
        verified_by=verified_by,
        verified_at=verified_at,
    )


def test_two_passes_at_once_do_not_take_a_round_back(ledger: Ledger, scan: Scan) -> None:
    copied(ledger, scan)
    began = ledger.inventory.begin("server")
    ledger.inventory.looked(began, after_id=200, number=100)
    ledger.inventory.looked(began, after_id=100, number=100)
    found = ledger.inventory.round_of("server")
    assert found is not None
    assert (found.after_id, found.looked, found.ended_at) == (200, 100, None)
    ledger.inventory.end(found)
    again = ledger.inventory.begin("server")
    assert (again.after_id, again.looked, again.ended_at) == (0, 0, None)
    ledger.inventory.begin_folders("server")  # goes by itself
    assert ledger.inventory.round_of("server") is not None
    assert ledger.inventory.page("server", after_id=0, limit=10) != []


def test_what_a_checksum_found_a_look_does_not_take_back(ledger: Ledger, scan: Scan) -> None:
    copy = copied(ledger, scan)
    assert ledger.copies.found(copy, CopyState.MISSING, why="gone")
    assert ledger.copies.found(copy, CopyState.PRESENT)
    assert ledger.inventory.findings() == []
    assert ledger.copies.found(copy, CopyState.CHANGED, why="bits", by_checksum=True)
    assert not ledger.copies.found(copy, CopyState.PRESENT)
    assert not ledger.copies.found(copy, CopyState.MISSING)
    (found,) = ledger.inventory.findings(endpoint="server")
    assert (found.why, found.by_checksum, found.state) == ("bits", True, CopyState.CHANGED)
    assert ledger.copies.verified(copy, method="again").state is CopyState.PRESENT
    assert ledger.inventory.findings() == []


def test_a_copy_that_is_carried_anew_is_present_whatever_was_found_of_the_one_before(
    ledger: Ledger, scan: Scan
) -> None:
    copy = copied(ledger, scan)
    ledger.copies.found(copy, CopyState.CHANGED, why="bits", by_checksum=True)
    again = copied(ledger, scan)
    assert again.state is CopyState.PRESENT
    assert not ledger.copies.found(copy, CopyState.MISSING)  # of the one before
    assert ledger.copies.found(again, CopyState.MISSING, why="gone")


def test_a_proof_from_before_it_was_found_changed_does_not_make_it_good(
    ledger: Ledger, scan: Scan, books: Books
) -> None:
    made = perform(ledger, errand(scan), books, schedule=QUICK).record
    carried = copied(ledger, scan, verified_by=made.key, verified_at=made.finished_at)
    source = copied(ledger, scan, "detector", verified_at=made.finished_at)
    for copy in (carried, source):
        ledger.copies.found(copy, CopyState.CHANGED, why="bits", by_checksum=True)
    assert copied(ledger, scan, verified_by=made.key, verified_at=made.finished_at).state is CopyState.CHANGED
    assert copied(ledger, scan, "detector", verified_at=made.finished_at).state is CopyState.CHANGED
    ledger.operations.expire(made.key)
    again = perform(ledger, errand(scan), books, schedule=QUICK).record
    renewed = copied(ledger, scan, verified_by=again.key, verified_at=again.finished_at)
    assert (again.key, renewed.state, renewed.verified_at) == (made.key, CopyState.PRESENT, again.finished_at)


def test_what_was_read_before_it_was_found_changed_does_not_make_it_good(ledger: Ledger, scan: Scan) -> None:
    copy = copied(ledger, scan)
    read_at = ledger.now()
    ledger.copies.found(copy, CopyState.CHANGED, why="it was written to")
    assert ledger.copies.verified(copy, method="sha256", at=read_at).state is CopyState.CHANGED
    assert ledger.copies.verified(copy, method="sha256", at=ledger.now()).state is CopyState.PRESENT


def test_reading_a_copy_makes_its_evidence_young_and_not_the_copy(ledger: Ledger, later: Ledger, scan: Scan) -> None:
    copy = copied(ledger, scan)
    read = later.copies.verified(copy, method="again")
    assert (read.verified_at, read.checked_at, read.evidence_at) == (copy.verified_at, 4.1e9, 4.1e9)


def test_the_oldest_evidence_is_read_first_and_what_was_tried_in_vain_not_again(ledger: Ledger, scan: Scan) -> None:
    first, second = copied(ledger, scan), copied(ledger, scan, path="raw/p1/other.h5")
    assert ledger.inventory.oldest(["server"], limit=5, tried_before=0.0) == [first.id, second.id]
    assert ledger.inventory.oldest(["elsewhere"], limit=5, tried_before=0.0) == []
    ledger.copies.verified(first, method="again")
    assert ledger.inventory.oldest(["server"], limit=5, tried_before=0.0) == [second.id, first.id]
    ledger.inventory.draw([first.id, second.id])
    assert ledger.inventory.drawn(["server"]) == [first.id, second.id]
    ledger.inventory.tried(first.id)
    ledger.inventory.tried(second.id, "nothing computes there")
    assert ledger.inventory.drawn(["server"]) == []
    assert ledger.inventory.oldest(["server"], limit=5, tried_before=0.0) == [first.id]
    assert ledger.inventory.oldest(["server"], limit=5, tried_before=ledger.now() + 1) == [second.id, first.id]


def test_folders_are_replaced_and_those_that_are_gone_are_forgotten(ledger: Ledger, later: Ledger) -> None:
    began = ledger.inventory.begin_folders("server")
    for name in ("a", "b"):
        folder = UnknownFolder(
            endpoint="server", folder=name, files=1, size=5, oldest=0.0, newest=1.0, example="x", seen_at=ledger.now()
        )
        ledger.inventory.compared(began, name, folder)
    assert [each.folder for each in ledger.inventory.unknown(endpoint="server")] == ["a", "b"]
    again = later.inventory.begin_folders("server")
    later.inventory.compared(again, "a", None)
    later.inventory.end_folders(again)
    assert ledger.inventory.unknown() == []


def test_a_key_is_told_once_and_a_copy_is_warned_of_when_that_was_sent(
    ledger: Ledger, later: Ledger, scan: Scan
) -> None:
    copy = copied(ledger, scan)

    def write(key: str) -> bool:
        return ledger.notices.write(
            key=key,
            kind=NoticeKind.WARNING,
            addresses=["ada@example.org"],
            subject="s",
            body="b",
            warns_of=[copy],
        )

    assert write("monday")
    assert not write("monday")
    assert ledger.notices.noted([copy]) == {copy.id}
    assert (ledger.notices.warned_at(copy), ledger.notices.warned()) == (None, {})
    (notice,) = ledger.notices.unsent()
    ledger.notices.failed(notice, "no answer")
    assert [each.trouble for each in ledger.notices.unsent()] == ["no answer"]
    later.notices.sent(notice)
    assert (ledger.notices.warned_at(copy), ledger.notices.warned()) == (4.1e9, {copy.id: 4.1e9})
    ledger.copies.deleted(copy)
    again = copied(ledger, scan)
    assert (ledger.notices.warned_at(again), ledger.notices.warned()) == (None, {})
    assert ledger.notices.noted([again]) == frozenset()


def test_what_was_somewhere_has_been_there(ledger: Ledger, scan: Scan) -> None:
    ledger.copies.deleted(copied(ledger, scan))
    assert ledger.inventory.places_of([scan.id, "another"]) == {scan.id: frozenset({"server"})}
    assert ledger.inventory.accounted_for("server", ["raw/p1/tooth.h5"]) == {}
    copied(ledger, scan, "archive")
    assert ledger.inventory.accounted_for("archive", ["raw/p1/tooth.h5", "x"]) == {"raw/p1/tooth.h5": {""}}
