"""What is done again tells the truth of what is there now: scans taken again, results made over, copies lost."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from trial_room import LOCAL, NEW_FILE, Room

from orchestration.ledger.copy import CopyState

pytestmark = pytest.mark.slow


def state(room: Room, endpoint: str, file_path: str) -> CopyState:
    return next(copy.state for copy in room.overview(file_path).copies if copy.endpoint == endpoint)


def take_again(room: Room, file_path: str) -> None:
    """Acquisition writes another scan under the same name."""
    file = room.file("spot832", file_path)
    file.write_bytes(file.read_bytes() + b"\0")
    os.utime(file, (time.time() + 7, time.time() + 7))


def test_a_scan_that_was_taken_again_is_not_deleted_for_the_first(room: Room) -> None:
    file_path = room.moved_scan()
    take_again(room, file_path)
    room.let_time_pass(file_path)
    ended = room.prune("spot832", file_path)
    assert ended.error_type == "DeletionUnproven", ended
    assert room.file("spot832", file_path).exists()


def test_a_scan_that_was_taken_again_is_not_reconstructed_from_the_first(room: Room) -> None:
    file_path = room.moved_scan()
    take_again(room, file_path)
    ended = room.run(LOCAL, file_path=file_path)
    assert ended.error_type == "SourceChanged", ended
    assert ended.error is not None
    assert "new_832_file_flow" in ended.error.sentence


def test_a_scan_that_comes_again_after_its_original_was_deleted_is_not_said_to_be_there(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    assert room.prune("spot832", file_path).completed
    assert room.run(NEW_FILE, file_path=file_path).completed
    assert state(room, "spot832", file_path) is CopyState.DELETED


def test_a_copy_that_somebody_removed_is_carried_again(room: Room) -> None:
    file_path = room.moved_scan()
    room.file("nersc832", file_path).unlink()
    assert room.run(NEW_FILE, file_path=file_path).completed
    assert room.file("nersc832", file_path).read_bytes() == room.file("spot832", file_path).read_bytes()


def report_at(room: Room, endpoint: str, file_path: str) -> Path:
    copies = room.overview(file_path).copies
    copy = next(one for one in copies if (one.dataset, one.endpoint) == ("rec.report", endpoint))
    return room.world.settings().endpoint(endpoint).local_path(copy.path)


def test_a_result_that_was_written_over_wherever_it_was_is_made_again(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(LOCAL, file_path=file_path).completed
    reports = [report_at(room, endpoint, file_path) for endpoint in ("local832_scratch", "data832_scratch")]
    for report in reports:
        report.write_text(json.dumps({"parameters": {"center": 30.0}, "versions": {}}))
    assert room.run(LOCAL, file_path=file_path).completed
    seen = room.overview(file_path)
    assert [result.receipt.parameters for result in seen.results] == [{"center": 8.0}]
    checksums = {f"sha256:{hashlib.sha256(report.read_bytes()).hexdigest()}" for report in reports}
    assert {one.manifest[0].checksum for one in seen.copies if one.dataset == "rec.report"} == checksums
    assert len(checksums) == 1


def test_a_result_that_was_written_over_at_its_site_alone_is_not_made_again(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(LOCAL, file_path=file_path).completed
    kept = report_at(room, "data832_scratch", file_path)
    before = kept.read_bytes()
    report_at(room, "local832_scratch", file_path).write_text("another")
    assert room.run(LOCAL, file_path=file_path).completed
    assert kept.read_bytes() == before
    jobs = [one for one in room.overview(file_path).operations if one.step == "reconstruct at local"]
    assert [job.attempt for job in jobs] == [1]


def test_a_parameter_cannot_say_where_a_reconstruction_writes(room: Room, tmp_path: Path) -> None:
    file_path = room.moved_scan()
    ended = room.run(LOCAL, file_path=file_path, parameters={"out": str(tmp_path / "elsewhere")})
    assert ended.error_type == "InvalidInput", ended
    assert not (tmp_path / "elsewhere").exists()
