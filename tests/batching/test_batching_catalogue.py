"""Records of many scans are made side by side, and a catalogue that is away is not waited for once for each."""

from __future__ import annotations

import threading

import pytest
from batching_world import World

from orchestration.errors import Cancelled, CatalogueRefused, DeadlinePassed, OrchestrationError
from orchestration.flows.cataloguing import AT_ONCE, catalogue_all
from orchestration.flows.work import Work
from orchestration.ledger.scan import Scan


def scans_of(world: World, run: Work, count: int) -> list[Scan]:
    return [each.scan for each in world.sent(run, world.files(count))]


def test_several_records_are_made_at_the_same_time_each_once(world: World) -> None:
    together, made = threading.Barrier(AT_ONCE, timeout=30.0), list[str]()

    def make(_: Work, scan: Scan) -> None:
        together.wait()
        made.append(scan.id)

    with world.run() as run:
        scans = scans_of(world, run, 3 * AT_ONCE)
        assert catalogue_all(run, scans, make) == {}
    assert sorted(made) == sorted(scan.id for scan in scans)


def test_one_that_is_refused_keeps_no_other_from_its_record(world: World) -> None:
    made: list[str] = []

    def make(_: Work, scan: Scan) -> None:
        if scan.path.name == "0005.dat":
            raise CatalogueRefused("it is not to its taste")
        made.append(scan.path.name)

    with world.run() as run:
        scans = scans_of(world, run, 20)
        ((scan_id, error),) = catalogue_all(run, scans, make).items()
        assert run.ledger.scans.get(scan_id).path.name == "0005.dat"
    assert isinstance(error, CatalogueRefused)
    assert len(made) == 19


def test_a_catalogue_that_is_away_is_not_waited_for_once_for_each(world: World) -> None:
    asked: list[str] = []

    def make(_: Work, scan: Scan) -> None:
        asked.append(scan.id)
        raise DeadlinePassed("the catalogue has not answered for hours")

    with world.run() as run:
        scans = scans_of(world, run, 50)
        failed = catalogue_all(run, scans, make)
    assert failed.keys() == {scan.id for scan in scans}
    assert len(asked) <= AT_ONCE


@pytest.mark.parametrize("error", [Cancelled("a person did"), RuntimeError("nobody planned for it")])
def test_what_ends_the_run_is_raised(world: World, error: OrchestrationError | RuntimeError) -> None:
    def make(_: Work, scan: Scan) -> None:
        if scan.path.name == "0003.dat":
            raise error

    with world.run() as run, pytest.raises(type(error)):
        catalogue_all(run, scans_of(world, run, 10), make)
