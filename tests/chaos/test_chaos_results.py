"""What comes back from a site is what its job made, or it is said that it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trial_room import ALCF, NERSC, Room

SCRATCH = {NERSC: "nersc832_alsdev_pscratch_scratch", ALCF: "alcf832_scratch"}
MEDDLER = """
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            import time
            folder = Path(os.environ["ORCHESTRATION_ERROR_FILE"]).parent
            os.closerange(0, 3)
            until = time.monotonic() + 20
            while not (folder / "report.json").exists() and time.monotonic() < until:
                time.sleep(0.002)
            (base / "zz_not_of_this_job.tiff").write_bytes(b"other")
            os._exit(0)
        os._exit(0)
"""
"""A process that a program leaves behind, and that writes to the results once they were checked."""


@pytest.fixture
def program(room: Room) -> Iterator[Path]:
    path = room.world.layout.root / "site" / "program"
    good = path.read_text()
    yield path
    path.write_text(good)


@pytest.mark.parametrize("target", [NERSC, pytest.param(ALCF, marks=pytest.mark.slow)])
def test_results_that_change_before_they_are_carried_are_told_and_made_anew(
    room: Room, program: Path, target: str
) -> None:
    good = program.read_text()
    program.write_text(good.replace("\n\ndef _folder", f"{MEDDLER}\n\ndef _folder", 1))
    file_path = room.moved_scan()
    ended = room.run(target, file_path=file_path)
    assert ended.error_type == "SourceChanged", ended
    assert room.prefect_states(file_path)[-1][0] == "FAILED"
    program.write_text(good)
    for odd in room.world.root(SCRATCH[target]).rglob("zz_not_of_this_job.tiff"):
        odd.unlink()
    assert room.run(target, file_path=file_path).completed
