"""A dataset goes from the detector to results that people see, or it is said why it does not."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
from xpcs_room import LARGER, ONLINE, XpcsRoom

from orchestration.ledger.copy import CopyState
from orchestration.ledger.operation import OperationState
from orchestration.ledger.service import Json
from orchestration.paths import RelativePath
from orchestration.sandbox.trials.kills import Kill

RESULTS, PORTAL, SITE = "aps8idi_results", "aps8idi_portal", "local8idi_scratch"


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_dataset_is_correlated_brought_back_drawn_published_and_catalogued(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    ended = room.run(ONLINE, raw=room.posix(folder / "a01.h5"), qmap=qmap)
    assert ended.completed, ended
    result = room.root(RESULTS) / ended.value["result"]
    with h5py.File(result) as file:
        assert file["/xpcs/multitau/normalized_g2"].shape[1] == 3
    kept = files_below(result.parent)
    assert {"a01_results.hdf", "a01_results.json", "files.json", "resources/metadata.json"} <= set(kept)
    assert sum(name.endswith(".png") for name in kept) >= 3

    record = room.record(ended.value["subject"])
    assert record is not None
    assert record["status"] == {"state": "final"}
    told = record["project_metadata"]
    assert (told["cycle"], told["experiment"], told["parent"]) == (*experiment.split("/"), f"{experiment}/data")
    assert told["inputs"]["qmap"]["source_path"] == f"{experiment}/qmap.hdf"
    published = files_below(room.root(PORTAL) / folder.relative_to(room.source))
    digests = {each["filename"]: each["sha256"] for each in record["files"]}
    assert digests.keys() == kept.keys() - {"files.json"}
    named = {f"{result.parent.name}/{name}": digest for name, digest in digests.items()}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in published.items()}.items() >= named.items()

    found = room.overview(folder)
    order = [each.step for each in sorted(found.operations, key=lambda each: each.finished_at or 0.0)]
    assert order.index("publish placeholder in xpcs") < next(n for n, step in enumerate(order) if "correlate" in step)
    back = next(n for n, step in enumerate(order) if step.startswith("copy results") and "aps8idi_results" in step)
    assert back < next(n for n, step in enumerate(order) if step.startswith("draw at"))
    assert len([each for each in found.operations if each.service == "scicat.ingest"]) == 2
    scheduled = str([each.request for each in found.operations if each.step.startswith("schedule")])
    assert all(f"'{path}'" in scheduled for path in (folder.relative_to(room.source), ended.value["result"]))


@pytest.mark.slow
def test_only_what_is_asked_for_is_done(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    options: dict[str, Json] = {"skip_publish": True, "type": "Both", "dq_selection": "2", "avg_frame": 2}
    ended = room.run(ONLINE, raw=room.posix(folder), qmap=qmap, options=options, suffix="_pairs")
    assert ended.completed, ended
    with h5py.File(room.root(RESULTS) / ended.value["result"]) as file:
        assert list(file["/xpcs/twotime/processed_bins"][()]) == [2]
        assert file["/xpcs/spatial_mean/intensity_vs_time"].shape == (2, 32)
    assert ended.value["result"].endswith("/a01_pairs_results.hdf")
    assert not room.done(folder, "globus.publish")
    assert not (room.root(PORTAL) / folder.relative_to(room.source)).exists()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    effects = len(room.world.facility.effects())
    ended = room.run(ONLINE, raw=room.posix(folder), qmap=qmap, dry_run=True)
    assert ended.completed, ended
    assert ended.value["files"] == ["a01.h5", "a01_metadata.hdf"]
    assert (ended.value["site"], ended.value["published_in"]) == ("local_xpcs", "xpcs")
    assert len(room.world.facility.effects()) == effects


@pytest.mark.slow
def test_a_controlled_dataset_is_correlated_and_nobody_is_told(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    effects = len(room.world.facility.effects())
    ended = room.run(ONLINE, raw=room.posix(folder), qmap=qmap, is_export_control=True)
    assert ended.completed, ended
    assert (room.root(RESULTS) / ended.value["result"]).is_file()
    assert ended.value["subject"] == ""
    later = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)  # not told, it knows
    assert later.completed, later
    assert later.value["subject"] == ""
    assert {each.service for each in room.overview(folder).operations} <= {
        "local.transfer",
        "local.jobs",
        "prefect.schedule",
    }
    assert len(room.world.facility.effects()) == effects


@pytest.mark.slow
def test_a_dataset_under_embargo_is_told_of_when_that_is_over_and_correlated_once(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    with room.world.ledger() as ledger:
        path = RelativePath(str(folder.relative_to(room.source)))
        scan = ledger.scans.register(beamline="aps8idi", path=path)
        ledger.scans.learn(scan.id, {"embargo_until": "2999-01-01"})
        early = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)
        assert early.completed, early
        assert early.value["subject"] == ""
        assert (room.root(RESULTS) / early.value["result"]).is_file()
        assert not room.done(folder, "globus.publish")
        assert not (room.root(PORTAL) / path.text).exists()
        ledger.scans.learn(scan.id, {"embargo_until": "2026-01-01"})
    later = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)
    assert later.completed, later
    assert room.done(folder, "globus.publish")
    assert (room.root(PORTAL) / path.text).exists()
    assert len([step for step in room.done(folder, "local.jobs") if step.startswith("correlate")]) == 1


def emptied(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def of_five_parts(folder: Path) -> None:
    (folder / "a01.h5").unlink()
    for part in (0, 1, 2, 4, 5):
        (folder / f"a01.bin.00{part}").write_bytes(bytes(64))


def without_metadata(folder: Path) -> None:
    (folder / "a01_metadata.hdf").unlink()


def truncated(folder: Path) -> None:
    raw = folder / "a01.h5"
    raw.write_bytes(raw.read_bytes()[: raw.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "error", "reason"),
    [
        (emptied, "ScanUnreadable", "is empty"),
        (of_five_parts, "ScanUnreadable", "a01.bin.003"),
        (without_metadata, "ScanUnreadable", "metadata"),
        (truncated, "JobFailed", "a01.h5"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_dataset_that_cannot_be_correlated_is_said_to_have_failed_and_leaves_nothing(
    room: XpcsRoom, spoil: object, error: str, reason: str
) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    spoil(folder)  # type: ignore[operator]
    ended = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)
    assert ended.error is not None
    assert ended.error_type == error
    assert reason in ended.error.sentence
    record = room.record(room.subject_of(folder))
    assert record is not None
    assert record["status"]["state"] == "failed"
    assert record["status"]["reason"] == ended.error.sentence
    assert not (room.root(RESULTS) / folder.relative_to(room.source)).exists()


@pytest.mark.slow
def test_a_run_that_is_cancelled_after_its_process_died_promises_no_result(room: XpcsRoom) -> None:
    experiment = room.experiment()
    whole, folder = room.measure(experiment, "a02"), room.measure(experiment)
    qmap, raw = room.qmap(experiment), room.posix(folder / "a01.h5")
    undisturbed = room.run(ONLINE, raw=room.posix(whole / "a02.h5"), qmap=qmap)
    place = next(each for each in undisturbed.boundaries if each.startswith("before-submit of correlate"))
    assert room.run(ONLINE, raw=raw, qmap=qmap, kill=Kill(at=place)).killed
    record = room.record(room.subject_of(folder))
    assert record is not None
    assert record["status"] == {"state": "placeholder"}

    with room.world.ledger() as ledger:
        (run,) = ledger.runs.of_scan(ledger.scans.find(str(folder.relative_to(room.source))).id)
        ledger.runs.request_cancel(run.id)
    assert {"subject": room.subject_of(folder), "run": run.id} in reconciled(room)["taken_back"]
    record = room.record(room.subject_of(folder))
    assert record is not None
    assert record["status"]["state"] == "failed"
    assert "cancelled by a person" in record["status"]["reason"]
    assert record["project_metadata"]["dataset"] == "a01"
    assert reconciled(room)["taken_back"] == []

    again = room.run(ONLINE, raw=raw, qmap=qmap)
    assert again.completed, again
    record = room.record(again.value["subject"])
    assert record is not None
    assert record["status"] == {"state": "final"}


def reconciled(room: XpcsRoom) -> dict[str, Any]:
    ended = room.run("orchestration.flows.aps8idi.reconcile:reconcile")
    assert ended.completed, ended
    value: dict[str, Any] = ended.value
    return value


def test_a_qmap_of_another_detector_is_refused_before_anything_is_moved(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, other = room.measure(experiment), room.qmap(experiment, movie=LARGER)
    ended = room.run(ONLINE, raw=room.posix(folder), qmap=other, dry_run=True)
    assert ended.error is not None
    assert (ended.error_type, "32" in ended.error.what, "48" in ended.error.what) == ("InvalidInput", True, True)


def test_a_slip_of_the_pen_makes_no_record(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    ended = room.run(ONLINE, raw=room.posix(folder.with_name("b01") / "b01.h5"), qmap=qmap)
    assert ended.error_type == "SourceMissing"
    assert not room.done(folder.with_name("b01"), "globus.publish")


@pytest.mark.slow
def test_a_result_whose_site_was_cleared_before_it_was_drawn_is_drawn_from_where_it_returned(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    raw = room.posix(folder / "a01.h5")
    result = Path(room.run(ONLINE, raw=raw, qmap=qmap, dry_run=True).value["result"])
    drawing = f"before-submit of draw at local_xpcs ({result.parent.name})"
    assert room.run(ONLINE, raw=raw, qmap=qmap, kill=Kill(at=drawing)).killed
    assert cleared(room, folder, SITE) > 0
    ended = room.run(ONLINE, raw=raw, qmap=qmap)
    assert ended.completed, ended
    correlations = [each for each in room.overview(folder).operations if each.step.startswith("correlate at")]
    assert [each.attempt for each in correlations] == [1]
    lent = [each for each in room.overview(folder).copies if each.endpoint == SITE and each.generation == 2]
    assert lent
    assert all(each.delete_after is not None for each in lent)
    assert list((room.root(PORTAL) / result.parent).rglob("*.png"))


def cleared(room: XpcsRoom, folder: Path, endpoint: str) -> int:
    """All that an endpoint has of a dataset is deleted, as retention does; how many copies that were."""
    mine = [each for each in room.overview(folder).copies if each.endpoint == endpoint]
    with room.world.ledger() as ledger:
        for copy in mine:
            path = room.root(endpoint) / copy.path.text
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            ledger.copies.deleted(copy)
    return len(mine)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_again_and_again_it_goes_on_and_computes_once(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    ended, kills = room.killed_all_the_way(ONLINE, raw=room.posix(folder / "a01.h5"), qmap=qmap)
    assert ended.completed, ended
    assert kills > 10
    found = room.overview(folder)
    jobs = [each for each in found.operations if each.service.startswith("local.jobs")]
    assert [(each.state, each.attempt) for each in jobs] == [(OperationState.SUCCEEDED, 1)] * 2
    record = room.record(ended.value["subject"])
    assert record is not None
    assert record["status"] == {"state": "final"}
    present = [each for each in found.copies if each.state is CopyState.PRESENT]
    assert {each.endpoint for each in present if each.dataset == "xpcs.result"} >= {RESULTS, PORTAL}
