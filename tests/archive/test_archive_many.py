"""Many proposals, each in a run of its own that a worker picks up."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from archive_room import APRIL_2026, AUGUST_2026, Room

from orchestration.errors import BatchIncomplete
from orchestration.flows import catalogue
from orchestration.hpss.bundles import Cycle

FLOWS = "orchestration.flows.bl832.archive_all"


@contextmanager
def worker(room: Room) -> Iterator[None]:
    """Of the pool in which the deployments of this world are."""
    words = [sys.executable, "-m", "prefect", "worker", "start", "--pool=trials", "--type=process"]
    environment = {**os.environ, **room.world.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (
        room.world.layout.log("archive-worker").open("ab") as log,
        subprocess.Popen(words, env=environment, cwd=room.world.layout.root, stdout=log, stderr=log) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.mark.slow
def test_what_all_proposals_wrote_in_a_cycle_is_archived_and_what_cannot_be_is_named(room: Room) -> None:
    folder = f"proposals-{uuid.uuid4().hex[:6]}"
    names = [room.project() for _ in range(2)]
    for name, when in zip(names, (APRIL_2026, AUGUST_2026), strict=True):
        path = room.cfs / folder / name / "scan.h5"
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
        os.utime(path, (when, when))
    room.settle({"source_folder": folder})
    with worker(room):
        target = f"{FLOWS}:archive_832_projects_from_previous_cycle_dispatcher"
        ended = room.nursery.run(target, {"cycle": "2026-1"})
        assert ended.completed, ended
        assert sorted(ended.value["archived"]) == sorted(f"/global/{folder}/{name}" for name in names)
        assert room.stored(names[0]) >= {f"{names[0]}_2026-1.tar"}
        assert not room.stored(names[1])
        paths = [f"/global/{folder}/{name}" for name in (*names, "none")]
        incomplete = room.nursery.run(f"{FLOWS}:archive_832_project_dispatcher", {"file_path": [*paths]})
        assert isinstance(incomplete.error, BatchIncomplete)
        assert "1 of 3 proposals" in incomplete.error.what
        assert f"/global/{folder}/none" in incomplete.error.what
    assert room.stored(names[1]) >= {f"{names[1]}_2026-2.tar"}


def test_the_previous_cycle_is_archived_after_the_end_of_each() -> None:
    deployed = {spec.flow_name: spec for spec in catalogue.of_beamline("bl832").deployments}
    spec = deployed["archive_832_projects_from_previous_cycle_dispatcher"]
    (schedule,) = spec.schedules
    assert schedule.cron == "0 3 20 1,7 *"
    assert str(Cycle.at(1_784_000_000).previous) == "2025-2"  # 14 July 2026
    assert str(Cycle.at(1_784_600_000).previous) == "2026-1"  # 21 July 2026
