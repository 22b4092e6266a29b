"""A whole experiment: each dataset is right in the end, or named with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from xpcs_room import BATCH, ONLINE, XpcsRoom

from orchestration.ledger.batches import ItemState
from orchestration.sandbox.trials.kills import Ended

RESULTS = "aps8idi_results"


def measured(room: XpcsRoom, count: int) -> tuple[str, list[Path], str]:
    """An experiment of so many datasets; its folder and qmap as users say them."""
    experiment = room.experiment()
    folders = [room.measure(experiment, f"d{number:03}") for number in range(count)]
    return room.posix(folders[0].parent), folders, room.qmap(experiment)


def spoiled(folder: Path, how: int) -> None:
    raw = folder / f"{folder.name}.h5"
    match how % 3:
        case 0:
            raw.write_bytes(raw.read_bytes()[:4000])
        case 1:
            raw.unlink()
        case _:
            (folder / f"{folder.name}_metadata.hdf").unlink()


def mended(room: XpcsRoom, folder: Path) -> None:
    for suffix in (".h5", "_metadata.hdf"):
        (folder / f"{folder.name}{suffix}").write_bytes((room.templates / f"movie{suffix}").read_bytes())


def batch_of(ended: Ended) -> str:
    assert ended.error is not None, ended
    assert ended.error_type == "BatchIncomplete", ended
    return ended.error.where.removeprefix("batch ")


def demand_right(room: XpcsRoom, folder: Path) -> None:
    """The result is there and the index leads to it."""
    place = room.root(RESULTS) / folder.relative_to(room.source)
    assert len(list(place.rglob("*_results.hdf"))) == 1
    record = room.record(room.subject_of(folder))
    assert record is not None
    assert record["status"] == {"state": "final"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_failed_datasets_are_named_and_retry_finishes_exactly_those(room: XpcsRoom) -> None:
    """A tenth of them; with BEAMLINE_TEST_DATASETS=200 it takes ten minutes."""
    count = int(os.environ.get("BEAMLINE_TEST_DATASETS", "8"))
    folder, datasets, qmap = measured(room, count)
    broken = datasets[::10]
    for how, each in enumerate(broken):
        spoiled(each, how)
    batch = batch_of(room.run(BATCH, folder=folder, qmap=qmap, run_batch_size=5))
    items = {item.name: item for item in room.items(batch)}
    assert {name for name, item in items.items() if item.state is ItemState.FAILED} == {each.name for each in broken}
    assert all(item.error is not None for item in items.values() if item.state is ItemState.FAILED)
    for each in datasets:
        if each in broken:
            record = room.record(room.subject_of(each))
            assert record is not None
            error = items[each.name].error
            assert error is not None
            assert record["status"] == {"state": "failed", "reason": error.sentence}
            assert not list((room.root(RESULTS) / each.relative_to(room.source)).rglob("*_results.hdf"))
        else:
            demand_right(room, each)
    for each in broken:
        mended(room, each)
    ended = room.run(BATCH, batch=batch[:8])
    assert ended.completed, ended
    assert ended.value == {"batch": batch, "datasets": count, "done": count}
    assert {item.attempts for item in room.items(batch) if item.name in {each.name for each in broken}} == {2}
    assert {item.attempts for item in room.items(batch) if item.name not in {each.name for each in broken}} == {1}
    for each in broken:
        demand_right(room, each)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_batch_that_is_killed_again_and_again_computes_nothing_twice(room: XpcsRoom) -> None:
    folder, datasets, qmap = measured(room, 1)
    ended, kills = room.killed_all_the_way(BATCH, folder=folder, qmap=qmap, run_batch_size=2, active_runs_limit=1)
    assert ended.completed, ended
    assert kills > 10
    jobs = [each for each in room.overview(datasets[0].parent).operations if each.service.startswith("local.jobs")]
    assert [each.attempt for each in jobs] == [1]
    for each in datasets:
        demand_right(room, each)


@pytest.mark.slow
def test_what_has_come_since_is_all_that_the_next_run_does(room: XpcsRoom) -> None:
    folder, datasets, qmap = measured(room, 2)
    first = room.run(BATCH, folder=folder, qmap=qmap)
    assert first.completed, first
    late = room.measure(str(datasets[0].parent.parent.relative_to(room.source)), "late")
    second = room.run(BATCH, folder=folder, qmap=qmap)
    assert second.completed, second
    assert [item.name for item in room.items(second.value["batch"])] == ["late"]
    demand_right(room, late)


def test_a_dry_run_says_of_each_dataset_what_would_become_of_it(room: XpcsRoom) -> None:
    folder, datasets, qmap = measured(room, 2)
    spoiled(datasets[1], 1)
    ended = room.run(BATCH, folder=folder, qmap=qmap, dry_run=True)
    assert ended.completed, ended
    assert ended.value["d000"]["files"] == ["d000.h5", "d000_metadata.hdf"]
    assert ended.value["d001"]["error"] == "ScanUnreadable"


@pytest.mark.slow
def test_what_was_correlated_by_itself_or_in_a_batch_is_not_made_again_by_the_other(room: XpcsRoom) -> None:
    folder, datasets, qmap = measured(room, 2)
    alone, with_others = datasets
    assert room.run(ONLINE, raw=room.posix(alone / f"{alone.name}.h5"), qmap=qmap).completed
    before = room.record(room.subject_of(alone))
    ended = room.run(BATCH, folder=folder, qmap=qmap)
    assert ended.completed, ended
    assert ended.value["done"] == 2
    (job,) = [each for each in room.overview(alone.parent).operations if each.service.startswith("local.jobs")]
    assert str(alone.name) not in str(job.request)
    between = room.record(room.subject_of(with_others))
    again = room.run(ONLINE, raw=room.posix(with_others), qmap=qmap)
    assert again.completed, again
    assert room.done(with_others, "local.jobs") == []
    assert len(room.done(alone, "local.jobs")) == 2
    assert (room.record(room.subject_of(alone)), room.record(room.subject_of(with_others))) == (before, between)
    for each in datasets:
        demand_right(room, each)
        assert len(room.done(each, "globus.publish")) == 2
