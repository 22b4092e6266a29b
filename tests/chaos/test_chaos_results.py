"""What comes back from a site is what its job made, or it is said that it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_hall import wait_for
from trial_room import ALCF, NERSC, Room

pytestmark = pytest.mark.slow

SCRATCH = {NERSC: "nersc832_alsdev_pscratch_scratch", ALCF: "alcf832_scratch"}
ODD = "zz_not_of_this_job.tiff"
MEDDLER = f"""
    import time
    while not (Path(__file__).parent / "go").exists():
        time.sleep(0.01)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            folder = Path(os.environ["ORCHESTRATION_ERROR_FILE"]).parent
            os.closerange(0, 3)
            until = time.monotonic() + 120
            while not (folder / "report.json").exists() and time.monotonic() < until:
                time.sleep(0.01)
            (base / "{ODD}").write_bytes(b"other")
            os._exit(0)
        os._exit(0)
"""
"""In the program: it ends when it is told to, and leaves a process behind that writes to results that were checked."""


@pytest.fixture
def program(room: Room) -> Iterator[Path]:
    path = room.world.layout.root / "site" / "program"
    good = path.read_text()
    yield path
    path.write_text(good)
    (path.parent / "go").unlink(missing_ok=True)


@pytest.mark.parametrize("target", [NERSC, ALCF])
def test_results_that_change_before_they_are_carried_are_told_and_made_anew(
    room: Room, program: Path, target: str
) -> None:
    good = program.read_text()
    program.write_text(good.replace("\n\ndef _folder", f"{MEDDLER}\n\ndef _folder", 1))
    file_path = room.moved_scan()
    scratch, results = room.collection(SCRATCH[target]), room.world.root(SCRATCH[target])
    child = room.start(target, file_path=file_path)
    log = room.world.jobs_log
    wait_for(lambda: log.exists() and Path(file_path).stem in log.read_text())
    room.world.facility.collections.set(scratch, paused=True)
    (program.parent / "go").touch()
    wait_for(lambda: list(results.rglob(ODD)))
    room.world.facility.collections.set(scratch, paused=False)
    ended = child.wait()
    assert ended.error_type == "SourceChanged", ended
    assert room.prefect_states(file_path)[-1][0] == "FAILED"
    program.write_text(good)
    for odd in results.rglob(ODD):
        odd.unlink()
    assert room.run(target, file_path=file_path).completed
