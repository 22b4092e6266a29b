"""A dataset may be correlated at a facility, and drawn elsewhere; a run says when its results are back."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import h5py
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType, TaskRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from xpcs_room import BATCH, DRAWN_APART, FACILITY, ONLINE, PLOTS, XpcsRoom, eventually, hearing_of_tasks

from orchestration.flows.aps8idi.client import results_are_back
from orchestration.flows.aps8idi.pipeline import BACK
from orchestration.flows.server import prefect_server
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import Json
from orchestration.sandbox.trials.kills import Ended

pytestmark = pytest.mark.slow

RESULTS, PORTAL, POLARIS = "aps8idi_results", "aps8idi_portal", "polaris_xpcs_scratch"
HERE, THERE = "local.jobs", "globus.compute@polaris_xpcs"


@dataclass(frozen=True)
class Trial:
    """A run of a dataset, and the tasks of it that Prefect knows."""

    folder: Path
    ended: Ended
    tasks: Sequence[TaskRun]


@dataclass(frozen=True)
class Heard:
    """Two runs, one after the other."""

    broken: Trial
    """Its raw data is truncated: its correlation fails."""
    apart: Trial
    """It is correlated at Polaris and drawn at the beamline."""


@pytest.fixture
def heard(room: XpcsRoom, once: Callable[..., Any]) -> Heard:
    found: Heard = once("heard", lambda: _heard(room))
    return found


@contextmanager
def _heard(room: XpcsRoom) -> Iterator[Heard]:
    experiment = room.experiment()
    qmap, broken, folder = room.qmap(experiment), room.measure(experiment, "a00"), room.measure(experiment)
    raw = broken / "a00.h5"
    raw.write_bytes(raw.read_bytes()[: raw.stat().st_size // 2])
    with hearing_of_tasks(room.world), temporary_settings({PREFECT_API_URL: room.world.prefect_url}):
        first = carried(room, broken, qmap=qmap)
        found = Heard(first, carried(room, folder, qmap=qmap, deployment=DRAWN_APART))
    yield found


def carried(room: XpcsRoom, folder: Path, *, qmap: str, deployment: str = "") -> Trial:
    """Prefect has heard of the end of its correlation, and of all that came before."""
    raw = room.posix(folder / f"{folder.name}.h5")
    ended = room.run(ONLINE, raw=raw, qmap=qmap, deployment=deployment)
    run = room.overview(folder).runs[-1].id
    correlated = {StateType.COMPLETED, StateType.FAILED}
    eventually(lambda: any(each.state_type in correlated for each in named("correlate at", tasks_of(run))))
    eventually(lambda: not ended.completed or results_are_back(run))
    return Trial(folder, ended, tasks_of(run))


def tasks_of(run: str) -> Sequence[TaskRun]:
    with prefect_server() as client:
        return client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run)])))


def named(begin: str, tasks: Sequence[TaskRun]) -> Sequence[TaskRun]:
    return [each for each in tasks if each.name.startswith(begin)]


def operation(room: XpcsRoom, folder: Path, begin: str) -> OperationRecord:
    (found,) = (each for each in room.overview(folder).operations if each.step.startswith(begin))
    return found


def jobs(room: XpcsRoom, folder: Path) -> dict[str, str]:
    """The service of each job that was done for it once, by the first word of its step."""
    found = [each for each in room.overview(folder).operations if each.service in {HERE, THERE}]
    assert {each.attempt for each in found} <= {1}
    return {each.step.partition(" ")[0]: each.service for each in found}


def demand_shown(room: XpcsRoom, folder: Path, result: str, subject: str) -> None:
    """Result and pictures are where they return to, and the record tells of the same files, in the portal."""
    home, portal = room.root(RESULTS) / Path(result).parent, room.root(PORTAL) / Path(result).parent
    with h5py.File(room.root(RESULTS) / result) as file:
        assert file["/xpcs/multitau/normalized_g2"].shape[1] == 3
    record = room.record(subject)
    assert record is not None
    assert record["status"] == {"state": "final"}
    digests = {each["filename"]: each["sha256"] for each in record["files"]}
    assert {Path(result).name, "resources/metadata.json"} <= digests.keys()
    assert sum(name.endswith(".png") for name in digests) >= 3
    for place in (home, portal):
        assert {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in digests} == digests


# ----- what a run says -----------------------------------------------------------------------------------------------


def test_that_results_are_back_is_said_before_they_are_drawn_and_published(room: XpcsRoom, heard: Heard) -> None:
    apart = heard.apart
    (said,) = named(BACK, apart.tasks)
    assert said.state_type is StateType.COMPLETED
    assert said.start_time is not None
    assert said.end_time is not None
    back, drawn, published = (
        operation(room, apart.folder, step)
        for step in (f"copy results from {POLARIS} to {RESULTS}", "draw at", "publish record")
    )
    assert (back.finished_at or 0.0) <= said.start_time.timestamp()
    assert said.end_time.timestamp() <= drawn.began_at < published.began_at


def test_a_run_whose_correlation_fails_does_not_say_so(heard: Heard) -> None:
    broken = heard.broken
    assert broken.ended.error_type == "JobFailed"
    assert [each.state_type for each in named("correlate at", broken.tasks)] == [StateType.FAILED]
    assert not named(BACK, broken.tasks)


# ----- a site for plots ----------------------------------------------------------------------------------------------


def test_a_result_of_one_site_is_drawn_at_another(room: XpcsRoom, heard: Heard) -> None:
    apart = heard.apart
    assert apart.ended.completed, apart.ended
    assert jobs(room, apart.folder) == {"correlate": THERE, "draw": HERE}
    result, subject = apart.ended.value["result"], apart.ended.value["subject"]
    drawn = {each.endpoint for each in room.overview(apart.folder).copies if each.dataset == "xpcs.pictures"}
    assert drawn == {PLOTS, RESULTS, PORTAL}
    demand_shown(room, apart.folder, result, subject)


def test_what_was_carried_to_the_site_for_plots_goes_again(room: XpcsRoom, heard: Heard) -> None:
    copies = [each for each in room.overview(heard.apart.folder).copies if each.endpoint == PLOTS]
    assert {each.dataset for each in copies} == {"xpcs.result", "xpcs.receipt", "xpcs.pictures", "xpcs.files"}
    assert [each.dataset for each in copies if each.delete_after is None] == []


def test_what_is_drawn_is_not_drawn_again_because_its_sites_were_cleared(room: XpcsRoom, heard: Heard) -> None:
    apart = heard.apart
    result, subject = apart.ended.value["result"], apart.ended.value["subject"]
    for endpoint in (POLARIS, PLOTS):
        shutil.rmtree((room.root(endpoint) / result).parent)
    raw, qmap = (room.posix(path) for path in (apart.folder / "a01.h5", apart.folder.parents[1] / "qmap.hdf"))
    again = room.run(ONLINE, raw=raw, qmap=qmap, deployment=DRAWN_APART)
    assert again.completed, again
    assert jobs(room, apart.folder) == {"correlate": THERE, "draw": HERE}
    assert not (room.root(PLOTS) / result).exists()
    demand_shown(room, apart.folder, result, subject)


# ----- a facility ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_a_facility_correlates_a_batch_in_one_job_and_one_of_its_datasets_otherwise(room: XpcsRoom) -> None:
    experiment = room.experiment()
    qmap, datasets = room.qmap(experiment), [room.measure(experiment, name) for name in ("d000", "d001")]
    parent = datasets[0].parent
    before = len(tasks_at_the_facility(room))
    ended = room.run(BATCH, folder=room.posix(parent), qmap=qmap, deployment=FACILITY)
    assert ended.completed, ended
    assert (ended.value["datasets"], ended.value["done"]) == (2, 2)
    assert len(tasks_at_the_facility(room)) == before + 1
    assert jobs(room, parent) == {"correlate": THERE}
    for item in room.items(ended.value["batch"]):
        folder = parent / item.name
        assert not jobs(room, folder)
        (result,) = (each.path.text for each in room.overview(folder).results if each.kind == "xpcs")
        demand_shown(room, folder, result, room.subject_of(folder))

    raw = room.posix(datasets[0] / "d000.h5")
    options: dict[str, Json] = {"type": "Both", "walltime": "0:10:00"}
    other = room.run(ONLINE, raw=raw, qmap=qmap, deployment=FACILITY, options=options, suffix="_b")
    assert other.completed, other
    assert other.value["result"].endswith("/d000_b_results.hdf")
    assert jobs(room, datasets[0]) == {"correlate": THERE, "draw": THERE}
    assert len(tasks_at_the_facility(room)) == before + 3
    demand_shown(room, datasets[0], other.value["result"], other.value["subject"])
    raw_copies = [step for step in room.done(datasets[0], "globus.transfer") if step.startswith("copy raw")]
    assert raw_copies == ["copy raw from aps8idi to polaris_xpcs_raw"]


def test_a_walltime_that_the_facility_does_not_give_is_refused_before_anything_is_carried(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    options: dict[str, Json] = {"walltime": "9:00:00"}
    ended = room.run(ONLINE, raw=room.posix(folder / "a01.h5"), qmap=qmap, deployment=FACILITY, options=options)
    assert ended.error_type == "InvalidInput"
    assert "does not give that walltime" in str(ended.error)
    assert not room.done(folder, "globus.transfer")


def tasks_at_the_facility(room: XpcsRoom) -> list[str]:
    """The jobs that its Globus Compute was given."""
    return [each.key for each in room.world.facility.effects("task") if each.label == "run_job"]
