"""Export-controlled scans: nothing of them reaches a place that is not the beamline's, by any way."""

from __future__ import annotations

import pytest
from trial_room import LOCAL, NEW_FILE, Room

from orchestration.errors import ExportControlled
from orchestration.ledger.copy import CopyState
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import perform
from orchestration.local.transfer import LocalTransfer
from orchestration.transfers import TransferRequest

CATALOGUE = {"dataset", "origdatablock", "attachment", "patch"}


def outside(room: Room, file_path: str) -> list[str]:
    """What of the scan has reached NERSC or the catalogue."""
    stem = file_path.rpartition("/")[2].removesuffix(".h5")
    effects = room.world.facility.effects()
    found = [one.kind for one in effects if one.kind in CATALOGUE and stem in one.label]
    found += [path for one in effects for path in one.paths if stem in path and path.startswith("/global/cfs")]
    return found + [str(path) for path in room.world.root("nersc832").rglob(f"*{stem}*")]


def test_a_controlled_scan_is_carried_to_the_server_and_no_further(room: Room) -> None:
    file_path = room.scan()
    ended = room.run(NEW_FILE, file_path=file_path, is_export_control=True)
    assert ended.completed, ended
    assert room.file("data832", file_path).exists()
    assert outside(room, file_path) == []


@pytest.mark.parametrize("target", [NEW_FILE, pytest.param(LOCAL, marks=pytest.mark.slow)])
def test_a_later_flow_without_the_flag_does_not_let_it_out(room: Room, target: str) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, is_export_control=True).completed
    ended = room.run(target, file_path=file_path)
    assert ended.completed, ended
    assert room.overview(file_path).scan.export_controlled
    assert outside(room, file_path) == []


def test_a_scan_that_is_flagged_late_goes_no_further(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, send_to_nersc=False).completed
    before = outside(room, file_path)
    assert room.run(NEW_FILE, file_path=file_path, is_export_control=True).completed
    assert room.run(NEW_FILE, file_path=file_path).completed
    assert outside(room, file_path) == before
    assert not room.file("nersc832", file_path).exists()


def test_perform_itself_refuses(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, is_export_control=True).completed
    settings = room.world.settings()
    source, destination = settings.endpoint("data832"), settings.endpoint("nersc832")
    with room.world.ledger() as ledger:
        scan = ledger.scans.find(file_path.removeprefix("/global/"))
        operation = Operation(
            scan=scan,
            step="smuggle",
            request=TransferRequest.of(scan.path, source=source, destination=destination),
            destination=destination.place,
            deadline=10.0,
        )
        with pytest.raises(ExportControlled):
            perform(ledger, operation, LocalTransfer(state=room.world.layout.root / "smuggling"))
    assert outside(room, file_path) == []


def test_a_controlled_scan_is_never_deleted_for_want_of_a_second_home(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, is_export_control=True).completed
    ended = room.prune("data832", file_path)
    assert ended.error_type == "DeletionUnproven", ended
    assert all(copy.state is CopyState.PRESENT for copy in room.overview(file_path).copies)
