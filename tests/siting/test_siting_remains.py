"""A run is killed on its way to one site, and the next one goes to another: what the first left is looked after."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from siting_world import Place, wait_for

from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.sandbox.trials.audit import Audit
from orchestration.sandbox.trials.kills import Kill

pytestmark = pytest.mark.slow

RECONCILE = "orchestration.flows.reconciling:reconcile"
AT_NERSC = "nersc832_alsdev_pscratch_raw"
COPY = f"copy raw from data832_raw to {AT_NERSC}"
SCHEDULE = f"schedule deletion of raw at {AT_NERSC}"


def killed_then_done_elsewhere(place: Place, kill: str, *, arrived: bool = False) -> str:
    """Its first run was killed there while NERSC was up; its second found NERSC down. The scan."""
    scan = place.scan()
    assert place.run(scan, kill=Kill(at=kill)).killed
    if arrived:
        wait_for(lambda: (place.world.root(AT_NERSC) / scan.removeprefix("/global/raw/")).exists())
    place.world.facility.superfacility.begin_maintenance()
    assert place.run(scan).completed
    assert place.chosen(scan)[-1] == "local"
    return scan


def reconciled(place: Place) -> dict[str, Any]:
    ended = place.nursery.run(RECONCILE, {})
    assert ended.completed, ended
    value: dict[str, Any] = ended.value
    return value


def operation(place: Place, scan: str, step: str) -> OperationRecord:
    return next(each for each in place.overview(scan).operations if each.step == step)


def deletions(place: Place, scan: str) -> list[str]:
    """In the calendar, of the raw file at NERSC."""
    path = scan.removeprefix("/global/raw/")
    return [name for name, at in Audit(place.world).calendar if name == f"prune_{AT_NERSC}" and at == path]


def nothing_is_open(place: Place, scan: str) -> None:
    assert [each.step for each in place.overview(scan).operations if each.state.open] == []


@pytest.mark.parametrize(
    "kill",
    [f"before-reserve of {SCHEDULE}", pytest.param(f"before-submit of {SCHEDULE}", marks=pytest.mark.slow)],
)
def test_a_deletion_that_was_only_planned_comes_into_the_calendar(place: Place, kill: str) -> None:
    scan = killed_then_done_elsewhere(place, kill)
    assert deletions(place, scan) == []
    found = reconciled(place)
    assert AT_NERSC in [copy["endpoint"] for copy in found["planned_deletions"]]
    assert deletions(place, scan) == [f"prune_{AT_NERSC}"]
    nothing_is_open(place, scan)
    assert operation(place, scan, SCHEDULE).owner is None
    assert reconciled(place)["planned_deletions"] == []
    assert deletions(place, scan) == [f"prune_{AT_NERSC}"]


@pytest.mark.slow
def test_a_copy_of_which_only_the_transfer_is_written_down_is_deleted_one_day(place: Place) -> None:
    scan = killed_then_done_elsewhere(place, f"after-submit of {COPY}", arrived=True)
    reconciled(place)
    copies = [(copy.endpoint, copy.delete_after is not None) for copy in place.overview(scan).copies]
    assert (AT_NERSC, True) in copies
    assert deletions(place, scan) == [f"prune_{AT_NERSC}"]
    nothing_is_open(place, scan)


@pytest.mark.slow
def test_what_was_planned_and_never_asked_for_is_closed_once_its_run_does_not_come_back(place: Place) -> None:
    scan = killed_then_done_elsewhere(place, f"before-reserve of {COPY}")
    found = reconciled(place)
    assert (COPY, "cancelled") in [(line["step"], line["fate"]) for line in found["orphans"]]
    closed = operation(place, scan, COPY)
    assert closed.state is OperationState.CANCELLED
    assert "before anything was asked for" in str(closed.error)
    assert place.overview(scan).state == "completed"
    place.world.facility.superfacility.end_maintenance()
    assert place.run(scan, site="nersc").completed  # asked for again, it is done
    assert operation(place, scan, COPY).state is OperationState.SUCCEEDED


@pytest.mark.slow
def test_what_was_planned_by_a_run_that_may_come_back_is_left_for_an_hour(place: Place) -> None:
    scan = place.scan()
    assert place.run(scan, kill=Kill(at=f"before-reserve of {COPY}")).killed
    reconciled(place)
    assert operation(place, scan, COPY).state is OperationState.PLANNED
    with closing(sqlite3.connect(place.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute("update runs set finished_at = finished_at - 3700 where state = 'dead'")
    reconciled(place)
    assert operation(place, scan, COPY).state is OperationState.CANCELLED
