"""An export-controlled scan at the flows of facilities: refused, and nothing of it sent, whenever it was flagged."""

from __future__ import annotations

import pytest
from trial_room import ALCF, NERSC, NEW_FILE, Room

pytestmark = pytest.mark.slow

ANY = "orchestration.flows.bl832.anywhere:any_recon_flow"


def done(room: Room, file_path: str) -> list[str]:
    """Jobs name no scan: all of them count."""
    jobs = [one.kind for one in room.world.facility.effects() if one.kind in {"job", "task", "job-start", "task-start"}]
    return jobs + room.effects(file_path)


@pytest.mark.parametrize("target", [NERSC, ALCF])
@pytest.mark.parametrize("moved_before", [False, True], ids=["flagged first", "flagged late"])
def test_a_facility_is_sent_nothing_of_a_controlled_scan(room: Room, target: str, moved_before: bool) -> None:
    file_path = room.scan()
    if moved_before:
        assert room.run(NEW_FILE, file_path=file_path).completed
    assert room.run(NEW_FILE, file_path=file_path, is_export_control=True).completed
    before = done(room, file_path)
    ended = room.run(target, file_path=file_path)
    assert ended.error_type == "ExportControlled", ended
    assert done(room, file_path) == before


def test_a_controlled_scan_that_may_go_anywhere_stays_here(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, is_export_control=True).completed
    before = done(room, file_path)
    ended = room.run(ANY, file_path=file_path)
    assert ended.completed, ended
    assert done(room, file_path) == before
    (result,) = room.overview(file_path).results
    assert result.receipt.site == "local"


@pytest.mark.parametrize("target", [NERSC, ALCF])
def test_a_hostile_name_is_only_a_name_at_a_facility(room: Room, target: str) -> None:
    file_path = room.world.scan('-rf it\'s $(touch pwned) `x` "q" ü漢 %n;&|.h5')
    assert room.run(NEW_FILE, file_path=file_path).completed
    ended = room.run(target, file_path=file_path)
    assert ended.completed, ended
    assert list(room.world.layout.root.rglob("pwned")) == []
