"""Whole operations through the ledger while Globus loses answers, refuses and forgets tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from globus_ground import Ground

from orchestration.errors import DeadlinePassed, SourceMissing
from orchestration.globus.delete import GlobusDelete
from orchestration.globus.transfer import GlobusTransfer
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Progress
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone
from orchestration.transfers import DeleteRequest, TransferRequest

PLACE = Place(name="computer", zone=Zone.EXTERNAL)


@dataclass
class Clock:
    """Goes on only where a test says so."""

    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", clock=clock) as ledger:
        yield ledger


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=RelativePath("scan.h5"), fingerprint="1:2")


def transfer_of(ground: Ground, scan: Scan) -> Operation[TransferRequest]:
    request = TransferRequest.of(RelativePath("scan.h5"), source=ground.beamline, destination=ground.computer)
    return Operation(scan=scan, step="move", request=request, destination=PLACE, deadline=30.0)


@pytest.mark.parametrize("status", [400, 403, 409, 520])
def test_a_question_that_is_refused_ends_no_transfer(
    ground: Ground, mover: GlobusTransfer, ledger: Ledger, scan: Scan, status: int
) -> None:
    (ground.folder(ground.beamline) / "scan.h5").write_bytes(b"x" * 1000)
    ground.control.faults.add("GET .*/task/", status=status)
    moved = perform(ledger, transfer_of(ground, scan), mover)
    assert (moved.record.attempt, moved.evidence["bytes"]) == (1, 1000)


@pytest.mark.parametrize("kind", ["lost_answer", "drop", "status"])
def test_a_scan_is_moved_once_and_deleted_once_through_a_storm(
    ground: Ground, mover: GlobusTransfer, ledger: Ledger, scan: Scan, kind: str
) -> None:
    (ground.folder(ground.beamline) / "scan.h5").write_bytes(b"x" * 1000)
    before = len(ground.control.effects("transfer")), len(ground.control.effects("delete"))
    # Each kind of question fails the first time it is asked; the token is forgotten half-way.
    for question in ("GET .*/submission_id", "GET .*/stat", "POST .*/(transfer|delete)$", "GET .*/task_list"):
        ground.control.faults.add(question, kind)
        ground.control.faults.add(question, kind, skip=3)
    ground.control.faults.add("GET .*/task/", kind)
    ground.control.expire_tokens()

    moved = perform(ledger, transfer_of(ground, scan), mover)

    assert (moved.evidence["bytes"], moved.already_done) == (1000, False)
    assert (ground.folder(ground.computer) / "scan.h5").read_bytes() == b"x" * 1000
    assert perform(ledger, transfer_of(ground, scan), mover).already_done

    request = DeleteRequest(endpoint=ground.beamline, paths=(RelativePath("scan.h5"),))
    deletion = Operation(scan=scan, step="prune", request=request, destination=PLACE, deadline=30.0)
    perform(ledger, deletion, GlobusDelete(mover.clients))
    assert list(ground.folder(ground.beamline).iterdir()) == []
    after = len(ground.control.effects("transfer")), len(ground.control.effects("delete"))
    assert after == (before[0] + 1, before[1] + 1)


def test_a_missing_scan_is_an_answer_and_can_be_moved_once_it_is_there(
    ground: Ground, mover: GlobusTransfer, ledger: Ledger, scan: Scan
) -> None:
    with pytest.raises(SourceMissing):
        perform(ledger, transfer_of(ground, scan), mover)
    (ground.folder(ground.beamline) / "scan.h5").write_bytes(b"x")
    assert perform(ledger, transfer_of(ground, scan), mover).record.attempt == 2


def test_at_its_deadline_the_task_is_cancelled_at_globus(
    ground: Ground, mover: GlobusTransfer, ledger: Ledger, scan: Scan, clock: Clock
) -> None:
    (ground.folder(ground.beamline) / "scan.h5").write_bytes(b"x")
    ground.control.collections.set(str(ground.computer.uuid), paused=True)
    operation = transfer_of(ground, scan)

    def late(step: str, progress: Progress) -> None:
        """As soon as the transfer is seen going on."""
        clock.now = ledger.operations.get(operation.key).began_at + operation.deadline + 1.0

    with pytest.raises(DeadlinePassed):
        perform(ledger, operation, mover, on_progress=late)
    task = mover.clients().get_task(str(ledger.operations.get(operation.key).handle))
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "CANCELED")
