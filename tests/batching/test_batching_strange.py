"""A file that is, at its place, also one of a scan that may not leave is refused by itself; the others go."""

from __future__ import annotations

import pytest
from batching_world import World, transfers

from orchestration.errors import ExportControlled
from orchestration.flows.work import Work
from orchestration.ledger.copy import Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.paths import RelativePath

WAYS = ["scan of another beamline", "copy", "link", "folder"]


def flag(world: World, run: Work, way: str, names: list[str]) -> None:
    """Other scans, under export control, of which these files are, or lead to, something."""
    paths = {"copy": ["secret.dat"], "link": ["secret.dat"], "folder": ["mine"]}.get(way, names)
    for path in paths:
        secret = run.ledger.scans.register(beamline="other", path=RelativePath(path), export_controlled=True)
    if way == "link":
        (world.folder / "here" / "secret.dat").write_bytes(b"secret")
        for name in names:
            (world.folder / "here" / name).unlink()
            (world.folder / "here" / name).symlink_to(world.folder / "here" / "secret.dat")
    for name in names if way == "copy" else []:
        run.ledger.copies.record(
            scan_id=secret.id,
            dataset="rec.tiff",
            endpoint="here",
            path=RelativePath(name),
            role=Role.CACHE,
            manifest=[FileEvidence(path="", size=1)],
            method="test",
            verified_by=None,
        )


@pytest.mark.parametrize("way", WAYS)
def test_only_those_concerned_are_refused_and_named(world: World, way: str) -> None:
    world.add_beamline("other")
    bad, good = [world.file("mine/0.dat"), world.file("mine/1.dat")], world.files(4)
    with world.run() as run:
        flag(world, run, way, bad)
        for _ in range(2):
            done = world.carry(run, [*bad, *good], destination=world.far)
            assert {done.scans[each].path.text for each in done.failed} == {*bad}
            assert all(isinstance(each, ExportControlled) for each in done.failed.values())
            assert {done.scans[each].path.text for each in done.copies} == {*good}
        for scan_id, scan in done.scans.items():
            assert bool(run.ledger.audit.denials(scan_id)) is (scan.path.text in bad)
        assert len(transfers(run, good)) == 1
    assert set(world.arrived("far")) == {*good}


@pytest.mark.parametrize("way", WAYS)
def test_those_that_are_found_out_about_once_the_batch_was_made_leave_it(
    world: World, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_beamline("other")
    bad, good = [world.file("mine/0.dat"), world.file("mine/1.dat")], world.files(4)
    with world.run() as run:
        perform, waiting = type(run).perform, [way]

        def flag_first(bench: Work, *arguments: object, **options: object) -> object:
            if waiting:
                flag(world, run, waiting.pop(), bad)
            return perform(bench, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(type(run), "perform", flag_first)
        done = world.carry(run, [*bad, *good], destination=world.far)
        assert {done.scans[each].path.text for each in done.failed} == {*bad}
        for scan_id, scan in done.scans.items():
            assert bool(run.ledger.audit.denials(scan_id)) is (scan.path.text in bad)
    assert set(world.arrived("far")) == {*good}
