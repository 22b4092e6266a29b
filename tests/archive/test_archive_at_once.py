"""Several runs that archive one proposal: whoever is the first with a name stores under it, and what is left is planned
anew.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from archive_room import ARCHIVE, STORE, Room

from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.sandbox.trials.kills import Ended, Kill
from orchestration.sandbox.trials.nursery import Child

SUFFIX = ".manifest.json"


@contextmanager
def queue_held(room: Room) -> Iterator[None]:
    """Jobs are accepted, and do not begin."""
    room.world.facility.superfacility.turn(held=True)
    try:
        yield
    finally:
        room.world.facility.superfacility.turn(held=False)


def begin(room: Room, path: str, **arguments: str) -> Child:
    return room.nursery.start(STORE, {"file_path": f"/global/raw/{path}", **arguments})


def surveys(room: Room, path: str) -> list[OperationRecord]:
    return [each for each in room.operations(path) if each.step.startswith("survey ")]


def until_submitted(room: Room, *paths: str) -> None:
    """Their surveys are in the queue."""
    ends = time.monotonic() + 60
    while not all(_submitted(room, path) for path in paths):
        assert time.monotonic() < ends
        time.sleep(0.05)


def _submitted(room: Room, path: str) -> bool:
    found = surveys(room, path)
    return bool(found) and all(each.handle for each in found)


def until_over(room: Room) -> None:
    """No job waits or runs."""
    ends = time.monotonic() + 60
    while not all(job.over for job in room.world.facility.superfacility.jobs()):
        assert time.monotonic() < ends
        time.sleep(0.05)


def on_tape(room: Room, project: str) -> dict[str, list[str]]:
    """The members of each object that is there with its list, which are in the object itself, too."""
    found = {}
    for name in sorted(room.stored(project)):
        if name.endswith(SUFFIX):
            path = room.tape / project / name
            found[name.removesuffix(SUFFIX)] = [row[0] for row in json.loads(path.read_bytes())["members"]]
    return found


def each_is_stored_once(room: Room, project: str, *names: str) -> None:
    """On tape as in the ledger, and nothing is left of what was begun."""
    there = on_tape(room, project)
    assert Counter(name for members in there.values() for name in members) == Counter(f"{project}/{n}" for n in names)
    beside = {f"{name}{suffix}" for name in there for suffix in ("", ".idx", SUFFIX)}
    assert room.stored(project) == beside
    with room.world.ledger() as ledger:
        known = ledger.copies.below(ARCHIVE, project)
    objects = {each.path.text: sorted(file.path for file in each.manifest) for each in known}
    assert objects == {f"{project}/{name}": sorted(members) for name, members in there.items()}


def done(*runs: Ended) -> None:
    for ended in runs:
        assert ended.completed, ended


@pytest.mark.slow
def test_two_runs_at_once_that_plan_the_same_name_with_other_files_store_each_file_once(room: Room) -> None:
    project = room.project()
    room.file(project, b"a.h5", b"a" * 3000)
    room.file(project, b"sub/b.h5", b"b" * 3000)
    with queue_held(room):
        children = [begin(room, project), begin(room, f"{project}/sub")]
        until_submitted(room, project, f"{project}/sub")
    done(*(child.wait() for child in children))
    each_is_stored_once(room, project, "a.h5", "sub/b.h5")


@pytest.mark.slow
def test_a_run_that_died_with_a_plan_that_another_has_overtaken_plans_anew(room: Room) -> None:
    project = room.project()
    room.file(project, b"a.h5", b"a" * 3000)
    room.file(project, b"sub/b.h5", b"b" * 3000)
    with queue_held(room):
        child = begin(room, project)
        until_submitted(room, project)
        child.signal()
        assert child.wait().killed
    until_over(room)  # it has planned before the other stores
    done(room.store(f"{project}/sub"), room.store(project))
    each_is_stored_once(room, project, "a.h5", "sub/b.h5")
    assert len(surveys(room, project)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["before-reserve", "before-submit", "after-submit"])
def test_what_a_dead_run_has_begun_under_a_name_is_seen_to_its_end_before_more_is_planned(
    room: Room, boundary: str
) -> None:
    project = room.project()
    room.file(project, b"a.h5", b"a" * 3000)
    bundle = f"{project}_2026-1.tar"
    at = f"{boundary} of store {project}/{bundle} at {ARCHIVE}"
    killed = room.store(project, kill=Kill(at=at))
    assert killed.killed_at == at
    room.file(project, b"b.h5", b"b" * 3000)
    ended = room.store(project, cycle="2026-1")
    done(ended, room.store(project))
    assert on_tape(room, project) == {
        bundle: [f"{project}/a.h5"],
        f"{project}_2026-1_part2.tar": [f"{project}/b.h5"],
    }
    each_is_stored_once(room, project, "a.h5", "b.h5")
    stores = [each for each in room.operations(project) if each.step.startswith("store ")]
    assert [(each.state, each.attempt) for each in stores] == [(OperationState.SUCCEEDED, 1)] * 2
