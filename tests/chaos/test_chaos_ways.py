"""Ways that a scan may take besides the usual one: old ones, lost ones, those that came in by another door."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from quarantine_room import copies, grace_is_over, second_step
from trial_room import ALCF, LOCAL, NERSC, NEW_FILE, Room

from orchestration.config import Endpoint
from orchestration.flows.calendar import deletion_at
from orchestration.ledger.copy import CopyState
from orchestration.ledger.operation import OperationState
from orchestration.ledger.service import Json
from orchestration.sandbox.trials.kills import Kill

pytestmark = pytest.mark.slow

PRUNE = "orchestration.flows.bl832.prune:prune_"


def jobs(room: Room, file_path: str) -> int:
    """How often a program was started for the scan."""
    started = room.world.jobs_log.read_text().splitlines() if room.world.jobs_log.exists() else []
    return sum(1 for line in started if Path(file_path).name in line)


def pruned(room: Room, endpoint: str, file_path: str) -> None:
    """All that the endpoint has of the scan is deleted, as it is when its time has come, and that of its quarantine."""
    room.let_time_pass(file_path)
    for copy in copies(room, endpoint, file_path):
        if copy.state is CopyState.PRESENT:
            ended = room.run(f"{PRUNE}{endpoint}", relative_path=copy.path.text, generation=copy.generation)
            assert ended.completed, ended
            assert ended.value["deleted"] or ended.value["quarantined"], ended
    grace_is_over(room, file_path)
    for copy in copies(room, endpoint, file_path):
        if copy.state is CopyState.QUARANTINED:
            ended = second_step(room, copy)
            assert ended.completed, ended
            assert ended.value["deleted"], ended
    assert all(copy.state is CopyState.DELETED for copy in copies(room, endpoint, file_path))
    room.keep_copies(None)


def due(room: Room, file_path: str, endpoint: str) -> list[float | None]:
    return [copy.delete_after for copy in room.overview(file_path).copies if copy.endpoint == endpoint]


# ----- folders and links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [NEW_FILE, ALCF])
def test_a_folder_is_no_scan_and_nothing_in_it_is_sent(room: Room, target: str) -> None:
    file_path = room.world.scan("inside.h5", folder=f"folder {target[-9:]}")
    before = len(room.world.facility.effects())
    ended = room.run(target, file_path=os.path.dirname(file_path))
    assert ended.error_type == "ScanUnreadable", ended
    assert len(room.world.facility.effects()) == before


def test_a_link_to_a_controlled_scan_is_controlled_as_well(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, is_export_control=True).completed
    alias = f"{file_path.removesuffix('.h5')}-alias.h5"
    room.file("spot832", alias).symlink_to(room.file("spot832", file_path).name)
    ended = room.run(ALCF, file_path=alias)
    assert ended.error_type == "ExportControlled", ended
    assert room.overview(alias).scan.export_controlled


def test_what_is_said_of_a_link_is_said_of_its_file(room: Room) -> None:
    file_path = room.scan()
    alias = f"{file_path.removesuffix('.h5')}-alias.h5"
    room.file("spot832", alias).symlink_to(room.file("spot832", file_path).name)
    assert room.run(NEW_FILE, file_path=alias, is_export_control=True).completed
    assert room.run(NEW_FILE, file_path=file_path).completed
    assert not room.file("nersc832", file_path).exists()


def test_a_reconstruction_can_be_told_that_its_scan_is_controlled(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, send_to_nersc=False).completed
    ended = room.run(NERSC, file_path=file_path, is_export_control=True)
    assert ended.error_type == "ExportControlled", ended


# ----- old scans ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_scan_that_only_nersc_has_any_more_is_reconstructed_elsewhere(room: Room) -> None:
    file_path = room.moved_scan()
    for endpoint in ("spot832", "data832"):
        pruned(room, endpoint, file_path)
    assert not room.file("data832", file_path).exists()
    ended = room.run(ALCF, file_path=file_path)
    assert ended.completed, ended
    assert jobs(room, file_path) == 1
    steps = [operation.step for operation in room.overview(file_path).operations]
    assert "copy raw from nersc832 to alcf832_raw" in steps
    assert {f"catalogue {kind}" for kind in ("raw", "tiff", "zarr")} <= set(steps)


@pytest.mark.slow
def test_what_was_made_is_not_made_again_because_its_site_was_cleared(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(ALCF, file_path=file_path).completed
    for endpoint in ("alcf832_raw", "alcf832_scratch"):
        pruned(room, endpoint, file_path)
    effects = room.effects(file_path)
    assert room.run(ALCF, file_path=file_path).completed
    assert room.effects(file_path) == effects
    assert jobs(room, file_path) == 1


@pytest.mark.slow
def test_results_that_one_home_lost_come_back_from_the_other(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(NERSC, file_path=file_path).completed
    pruned(room, "nersc832_alsdev_pscratch_scratch", file_path)
    (result,) = room.overview(file_path).results
    at_home = room.world.root("data832_scratch") / result.path.text
    shutil.rmtree(at_home)
    assert room.run(NERSC, file_path=file_path).completed
    assert len(list(at_home.glob("*.tiff"))) == 3
    assert jobs(room, file_path) == 1


@pytest.mark.slow
def test_what_is_nowhere_any_more_is_made_again(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(ALCF, file_path=file_path).completed
    pruned(room, "alcf832_scratch", file_path)
    (result,) = room.overview(file_path).results
    shutil.rmtree(room.world.root("data832_scratch") / result.path.text)
    assert room.run(ALCF, file_path=file_path).completed
    assert jobs(room, file_path) == 2
    assert (room.world.root("data832_scratch") / result.path.text).is_dir()


# ----- copies at sites ----------------------------------------------------------------------------------------------


def test_a_raw_copy_at_a_site_goes_one_day_whatever_becomes_of_its_job(room: Room) -> None:
    file_path = room.moved_scan()
    program = room.world.layout.root / "site" / "program"
    good = program.read_text()
    program.write_text(good.replace("content = scan.read_bytes()", "sys.exit('no rings')", 1))
    try:
        ended = room.run(ALCF, file_path=file_path)
    finally:
        program.write_text(good)
    assert ended.error_type == "JobFailed", ended
    assert [when is not None for when in due(room, file_path, "alcf832_raw")] == [True]
    pruned(room, "alcf832_raw", file_path)


@pytest.mark.slow
def test_a_scan_that_came_in_by_another_door_leaves_a_site_again(room: Room) -> None:
    """It is on the beamline's server, and this service did not carry it there."""
    file_path = room.scan()
    there = room.file("data832", file_path)
    there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(room.file("spot832", file_path), there)
    assert room.run(ALCF, file_path=file_path).completed
    pruned(room, "alcf832_raw", file_path)


def test_a_file_on_the_server_that_is_not_the_scan_is_not_reconstructed(room: Room) -> None:
    file_path = room.scan()
    there = room.file("data832", file_path)
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(b"of another time")
    ended = room.run(ALCF, file_path=file_path)
    assert ended.error_type == "SourceChanged", ended


@pytest.mark.slow
def test_two_runs_that_know_other_sources_carry_the_scan_to_a_site_once(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, send_to_nersc=False).completed
    submitted = Kill(at="after-submit of copy raw from data832_raw to nersc832_alsdev_pscratch_raw")
    assert room.run(NERSC, file_path=file_path, kill=submitted).killed
    assert room.run(NEW_FILE, file_path=file_path).completed
    assert room.run(NERSC, file_path=file_path, parameters={"filter": "hann"}).completed
    to_site = [
        operation
        for operation in room.overview(file_path).operations
        if operation.step.startswith("copy raw") and operation.step.endswith("to nersc832_alsdev_pscratch_raw")
    ]
    assert [operation.state for operation in to_site] == [OperationState.SUCCEEDED]


# ----- deletions that wait ------------------------------------------------------------------------------------------


def test_a_deletion_of_what_is_in_use_is_put_off(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    step = "copy raw from data832_raw to local832_raw"
    assert room.run(LOCAL, file_path=file_path, kill=Kill(at=f"before-submit of {step}")).killed
    path = file_path.removeprefix("/global/")
    for _ in range(2):
        ended = room.run(f"{PRUNE}data832", relative_path=path, generation=1)
        assert ended.completed, ended
        assert step in str(ended.value["put off"])
    assert room.file("data832", file_path).exists()
    (later,) = due(room, file_path, "data832")
    assert later is not None
    assert later > time.time() + 3600
    assert [one for one in calendar(room, path) if one == "prune_data832"] == ["prune_data832"] * 2


def test_a_deletion_waits_for_operators_who_keep_copies_longer_than_they_said(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    room.keep_copies(180.0)
    ended = room.run(f"{PRUNE}data832", relative_path=file_path.removeprefix("/global/"), generation=1)
    assert ended.completed, ended
    assert room.file("data832", file_path).exists()
    (later,) = due(room, file_path, "data832")
    assert later is not None
    assert later > time.time() + 179 * 24 * 3600
    assert room.prune("data832", file_path).error_type == "DeletionUnproven"


@pytest.mark.slow
def test_a_rule_for_any_endpoint_is_carried_out(room: Room) -> None:
    config = room.world.layout.config_file
    before = config.read_text()
    document = yaml.safe_load(before)
    rule = {"after_days": 0, "requires": {"any_of": ["data832_scratch"], "min_copies": 1}}
    document["retention"]["nersc832_alsdev_scratch"] = rule
    config.write_text(yaml.safe_dump(document))
    names: list[Json] = ["prune_nersc832_alsdev_scratch"]
    assert room.run("orchestration.sandbox.trials.deployments:make", beamline="bl832", names=names).completed
    try:
        file_path = room.moved_scan()
        assert room.run(NERSC, file_path=file_path).completed
        (result,) = room.overview(file_path).results
        pruned(room, "nersc832_alsdev_scratch", file_path)
    finally:
        config.write_text(before)
    assert not (room.world.root("nersc832_alsdev_scratch") / result.path.text).exists()
    assert (room.world.root("data832_scratch") / result.path.text).exists()


def test_an_endpoint_without_a_flow_of_its_own_is_cleared_by_the_general_one(tmp_path: Path) -> None:
    collection = Endpoint(uuid=uuid4())
    assert deletion_at("bl832", collection.known_as("data832")) == ("prune_data832/prune_data832", {})
    general = "prune_globus_endpoint/prune_globus_endpoint"
    found = deletion_at("bl832", collection.known_as("alcf_eagle832"))
    assert found == (general, {"source_endpoint": "alcf_eagle832"})
    general = "prune_filesystem_endpoint/prune_filesystem_endpoint"
    found = deletion_at("bl832", Endpoint(mount=tmp_path).known_as("disk832"))
    assert found == (general, {"source_endpoint": "disk832"})


def calendar(room: Room, path: str) -> list[str]:
    """The deletions of a path that stand in Prefect's calendar."""
    return [name for name, where in room.audit().calendar if where == path]
