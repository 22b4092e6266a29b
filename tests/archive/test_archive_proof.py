"""The copy on tape as the witness that lets the one on disk go: looked at, and read back where that is long ago."""

from __future__ import annotations

import pytest
from archive_room import ARCHIVE, SOURCE, Room

from orchestration.config import Settings
from orchestration.errors import DeletionUnproven
from orchestration.flows.explaining import explain
from orchestration.flows.services import Services
from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyState
from orchestration.ledger.scan import Scan

BYTES = b"bytes that nobody can take again " * 20


def archived(room: Room) -> tuple[Scan, str]:
    """A scan of which there is one copy on disk and one on tape; and its bundle."""
    project = room.project()
    scan = room.scan(project, "scan 1.h5", BYTES)
    room.file(project, b"other.h5", b"other")
    stored = room.store(project)
    assert stored.completed, stored
    return scan, f"{project}/{project}_2026-1.tar"


def verdicts(room: Room, scan: Scan) -> list[Verdict]:
    with room.world.ledger() as ledger:
        return [each.verdict for each in ledger.audit.of_scan(scan.id)]


def test_a_flipped_bit_on_tape_is_found_before_the_copy_on_disk_may_go(room: Room) -> None:
    room.settle({}, always=True)
    scan, bundle = archived(room)
    room.flip(bundle, BYTES)
    ended = room.prune(scan)
    assert isinstance(ended.error, DeletionUnproven)
    assert "read back" in ended.error.what
    assert (room.cfs / scan.path.text).read_bytes() == BYTES
    assert [copy.state for copy in room.copies(scan)] == [CopyState.CHANGED]
    assert [copy.state for copy in room.copies(scan, SOURCE)] == [CopyState.PRESENT]
    assert verdicts(room, scan) == [Verdict.REFUSED]
    # Nor does it count afterwards, where nothing asks for its bytes.
    room.settle({})
    again = room.prune(scan)
    assert isinstance(again.error, DeletionUnproven)
    assert room.readings(scan) == 1


@pytest.mark.slow
def test_what_was_read_back_lately_is_only_looked_at_and_what_was_not_is_read_again(room: Room) -> None:
    scan, _ = archived(room)
    assert room.prune(scan).completed
    assert not (room.cfs / scan.path.text).exists()
    assert room.readings(scan) == 0
    old, bundle = archived(room)
    room.age(old, days=200)
    assert room.prune(old).completed
    assert room.readings(old) == 1
    third, bundle = archived(room)
    room.age(third, days=200)
    room.flip(bundle, BYTES)
    assert isinstance(room.prune(third).error, DeletionUnproven)
    assert (room.cfs / third.path.text).read_bytes() == BYTES


@pytest.mark.slow
def test_a_bundle_that_was_removed_or_cut_proves_nothing(room: Room) -> None:
    scan, bundle = archived(room)
    index = room.tape / f"{bundle}.idx"
    content = index.read_bytes()
    index.unlink()
    assert isinstance(room.prune(scan).error, DeletionUnproven)
    index.write_bytes(content)
    whole = (room.tape / bundle).read_bytes()
    (room.tape / bundle).write_bytes(whole[:-1])
    assert isinstance(room.prune(scan).error, DeletionUnproven)
    (room.tape / bundle).unlink()
    ended = room.prune(scan)
    assert isinstance(ended.error, DeletionUnproven)
    assert "it is not there any more" in ended.error.what
    assert (room.cfs / scan.path.text).exists()
    # Archived again, it is a copy again.
    assert room.store(scan.path.text.split("/")[1]).completed
    assert room.prune(scan).completed


@pytest.mark.slow
def test_nothing_goes_while_the_archive_cannot_be_read(room: Room) -> None:
    room.settle({}, always=True)
    scan, _ = archived(room)
    room.world.facility.superfacility.archive_fails(down=True)
    room.settle({}, always=True, patience=2.0)
    ended = room.prune(scan)
    room.settle({}, always=True)
    assert ended.error is not None
    assert (room.cfs / scan.path.text).exists()
    assert [copy.state for copy in room.copies(scan)] == [CopyState.PRESENT]
    room.world.facility.superfacility.archive_fails()
    assert room.prune(scan).completed


def test_explain_names_the_bundle_and_says_when_it_has_to_be_read(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, bundle = archived(room)
    for name, value in room.world.environment.items():
        monkeypatch.setenv(name, value)
    settings = room.world.settings()

    def outlook(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
        services = Services(settings)
        with room.world.ledger() as ledger:
            found = explain(settings, ledger, services, scan)
        services.close()
        return {each.copy.endpoint: (each.missing, each.witnesses) for each in found}

    assert outlook(settings)[SOURCE] == ("", (f"{ARCHIVE}:{bundle}/{scan.path.text.split('/')[1]}/scan 1.h5",))
    room.age(scan, days=400)
    missing, witnesses = outlook(settings)[SOURCE]
    assert "its checksums are 400 days old" in missing
    assert not witnesses
    assert room.readings(scan) == 0
