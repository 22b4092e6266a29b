"""What the jobs of ended operations have left at their sites, and that it was removed."""

from __future__ import annotations

import pytest
from ledger_world import Books, errand

from orchestration.errors import JobFailed
from orchestration.ledger import Ledger
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan


def uncleared(ledger: Ledger, books: Books, *, limit: int = 10) -> list[str]:
    found = ledger.operations.uncleared(books.name, before=ledger.now() + 1.0, limit=limit)
    return [record.step for record in found]


def test_what_has_ended_is_to_be_cleared_once(ledger: Ledger, scan: Scan, books: Books) -> None:
    steps = ("first", "second")
    for step in steps:
        perform(ledger, errand(scan, step), books)
    assert uncleared(ledger, books) == [f"do {step}" for step in steps]
    assert uncleared(ledger, books, limit=1) == ["do first"]
    assert ledger.operations.uncleared("another", before=ledger.now() + 1.0, limit=10) == []
    assert ledger.operations.uncleared(books.name, before=ledger.now() - 60.0, limit=10) == []
    first, second = ledger.operations.uncleared(books.name, before=ledger.now() + 1.0, limit=10)
    page = ledger.operations.uncleared(books.name, before=ledger.now() + 1.0, after=first, limit=10)
    assert [record.step for record in page] == ["do second"]
    assert ledger.operations.uncleared(books.name, before=ledger.now() + 1.0, after=second, limit=10) == []
    records = ledger.operations.uncleared(books.name, before=ledger.now() + 1.0, limit=1)
    for _ in range(2):
        ledger.operations.cleared(records)
    assert uncleared(ledger, books) == ["do second"]
    events = [event.event for event in ledger.operations.history(records[0].key)]
    assert events.count("cleared") == 1


def test_what_goes_on_is_not_to_be_cleared(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, "work")
    ledger.operations.take(operation, Owner.here(), service=books.name, redo=True)
    assert uncleared(ledger, books) == []


def test_all_attempts_have_left_something_and_a_new_one_leaves_more(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, "work", fails="no")
    for _ in range(2):
        with pytest.raises(JobFailed):
            perform(ledger, operation, books)
    assert len(set(ledger.operations.tokens(operation.key))) == 2
    old = ledger.operations.uncleared(books.name, before=ledger.now() + 1.0, limit=10)
    ledger.operations.cleared(old)
    with pytest.raises(JobFailed):
        perform(ledger, operation, books)
    assert uncleared(ledger, books) == ["do work"]
    ledger.operations.cleared(old)  # by one that saw it before it began again
    assert uncleared(ledger, books) == ["do work"]
