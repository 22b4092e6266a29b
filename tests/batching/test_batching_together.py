"""Many arrivals go in one transfer, each with its own record; what is wrong with one keeps no other from going."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from batching_world import World, transfers

from orchestration.errors import AccessDenied, ExportControlled, SourceMissing
from orchestration.flows.batching import _waiting
from orchestration.flows.copying import manifest_of
from orchestration.ledger.arrivals import Route
from orchestration.ledger.operation import OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.runs import RunState
from orchestration.ledger.service import Document
from orchestration.local import copying, together, trees
from orchestration.transfers import TransferItem


def test_all_go_in_one_transfer_and_each_scan_has_its_copy(world: World) -> None:
    names = world.files(30)
    with world.run() as run:
        done = world.carry(run, names)
        assert (len(done.copies), done.failed) == (30, {})
        (record,) = transfers(run, names)
        assert record.state is OperationState.SUCCEEDED
        assert len(run.ledger.operations.scans_of(record.key)) == 30
        for scan_id, copied in done.copies.items():
            (known,) = run.ledger.copies.of_scan(scan_id)
            assert known == copied
            assert known.verified_by == record.key
            (file,) = known.manifest
            assert file.path == ""
            assert str(file.checksum).startswith("sha256:")
            assert [each.key for each in run.ledger.operations.of_scan(scan_id)] == [record.key]
            assert run.ledger.operations.permissions(scan_id).keys() == {record.key}
        again = world.carry(run, names)
        assert again.copies.keys() == done.copies.keys()
        assert len(transfers(run, names)) == 1
    assert world.arrived() == world.arrived("here")


def test_files_are_found_below_the_root_for_which_the_evidence_was_written(world: World) -> None:
    """Who has only the row of a transfer takes the endpoint with the longest root."""
    (name,) = world.files(1)
    with world.run() as run:
        (copied,) = world.carry(run, [name]).copies.values()
        (record,) = transfers(run, [name])
        (entry,) = run.ledger.manifests.listed(record.evidence or {})
        listed: Document = {**entry, "path": str(entry["path"]).removeprefix("raw/")}
        written: Document = {**(record.evidence or {}), "root": "/there/raw", "manifest": [listed]}
        outcome = Outcome(record=record, evidence=written, already_done=True)
        item = TransferItem(source=copied.path, destination=copied.path)
        assert tuple(manifest_of(run, outcome, item, world.there)) == copied.manifest


def test_files_that_the_evidence_does_not_name_are_looked_up(world: World) -> None:
    """As older versions left it: a list below a root that it does not tell."""
    (name,) = world.files(1)
    with world.run() as run:
        (copied,) = world.carry(run, [name]).copies.values()
        (record,) = transfers(run, [name])
        written: Document = {**(record.evidence or {}), "manifest": [{"path": "0000.dat", "size": 1, "sha256": "0"}]}
        outcome = Outcome(record=record, evidence=written, already_done=True)
        item = TransferItem(source=copied.path, destination=copied.path)
        (found,) = manifest_of(run, outcome, item, world.there)
        assert (found.path, found.size, found.checksum) == ("", copied.size, None)


@pytest.mark.parametrize(("limit", "expected"), [({"batch_files": 4}, 3), ({"batch_bytes": 3500}, 4)])
def test_limits_of_count_and_bytes_make_several(tmp_path: Path, limit: dict[str, float], expected: int) -> None:
    world = World.make(tmp_path / "other", **limit)
    names = [world.file(f"raw/{number}", b"x" * 1000) for number in range(11)]
    with world.run() as run:
        assert len(world.carry(run, names).copies) == 11
        assert len(transfers(run, names)) == expected


def test_runs_that_have_one_file_each_at_the_same_time_share_a_transfer(tmp_path: Path) -> None:
    world = World.make(tmp_path / "other", batch_seconds=2.0)
    names = world.files(5)
    ended: list[int] = []

    def one(name: str) -> None:
        with world.run(name) as run:
            ended.append(len(world.carry(run, [name]).copies))

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert ended == [1] * 5
    with world.run() as run:
        assert len(transfers(run, names)) == 1
    assert world.arrived() == world.arrived("here")


def test_one_that_has_vanished_is_named_and_the_others_go(world: World) -> None:
    names = world.files(9)
    with world.run() as run:
        sent = world.sent(run, names)
        (world.folder / "here" / names[4]).unlink()
        done = world.carry(run, names)
        (error,) = done.failed.values()
        assert isinstance(error, SourceMissing)
        assert names[4] in error.what
        assert len(done.copies) == 8
        assert sent[4].scan.id in done.failed
        assert len(transfers(run, names)) == 1


def test_one_that_vanishes_once_the_batch_was_made_is_left_out_of_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = world.files(9)
    look = trees.look

    def vanish(path: Path, *, root: Path) -> object:
        if path.name == "0006.dat":
            path.unlink(missing_ok=True)
        return look(path, root=root)

    monkeypatch.setattr(together, "look", vanish)
    with world.run() as run:
        done = world.carry(run, names)
        (error,) = done.failed.values()
        assert isinstance(error, SourceMissing)
        assert len(done.copies) == 8
        failed, good = transfers(run, names)
        assert (failed.state, good.state) == (OperationState.FAILED, OperationState.SUCCEEDED)


def test_one_that_fails_while_it_looks_well_is_found_by_halves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = world.files(13)
    look = trees.look

    def refuse(path: Path, *, root: Path) -> object:
        if path.name == "0007.dat":
            raise AccessDenied(f"{path} may not be read", where="this machine")
        return look(path, root=root)

    for module in (together, copying):  # also when it goes alone
        monkeypatch.setattr(module, "look", refuse)
    with world.run() as run:
        done = world.carry(run, names)
        ((scan_id, error),) = done.failed.items()
        assert isinstance(error, AccessDenied)
        assert done.scans[scan_id].path.name == "0007.dat"
        assert len(done.copies) == 12
        monkeypatch.undo()
        monkeypatch.setenv("BEAMLINE_STATE", str(world.folder.parent / "state"))
        assert len(world.carry(run, names).copies) == 13
    assert world.arrived() == world.arrived("here")


def test_a_flagged_one_goes_alone_where_it_may_and_nowhere_else(world: World) -> None:
    names = world.files(6)
    with world.run() as run:
        flagged = world.sent(run, names[2:3], is_export_control=True)[0].scan
        done = world.carry(run, names)
        assert len(done.copies) == 6
        together, alone = sorted(transfers(run, names), key=lambda each: -len(run.ledger.operations.scans_of(each.key)))
        assert flagged.id not in run.ledger.operations.scans_of(together.key)
        assert run.ledger.operations.scans_of(alone.key) == [flagged.id]
        beyond = world.carry(run, names, destination=world.far)
        assert isinstance(beyond.failed[flagged.id], ExportControlled)
        assert len(beyond.copies) == 5
    assert set(world.arrived("far")) == {*names} - {names[2]}


def test_one_that_is_flagged_once_the_batch_was_made_leaves_it_before_it_is_submitted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = world.files(6)
    with world.run() as run:
        ids = [each.scan.id for each in world.sent(run, names)]
        plan = type(run.ledger.operations).plan_again

        def planned(rows: object, *arguments: object, **options: object) -> None:
            plan(rows, *arguments, **options)  # type: ignore[arg-type]
            flagging.append(names[3])

        flagging: list[str] = []
        monkeypatch.setattr(type(run.ledger.operations), "plan_again", planned)
        perform = type(run).perform

        def flag_first(bench: object, operation: object, service: object, **options: object) -> object:
            if flagging:
                world.sent(run, [flagging.pop()], is_export_control=True)
                flagging.clear()
            return perform(bench, operation, service, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(type(run), "perform", flag_first)
        done = world.carry(run, names, destination=world.far)
        assert isinstance(done.failed[ids[3]], ExportControlled)
        assert done.copies.keys() == {*ids} - {ids[3]}
        first, second = transfers(run, names)
        assert (first.state, first.token) == (OperationState.CANCELLED, None)
        assert ids[3] not in run.ledger.operations.scans_of(second.key)
        assert {line.scan_id for line in run.ledger.audit.denials(ids[3])} == {ids[3]}
        assert not run.ledger.audit.denials(ids[0])
    assert set(world.arrived("far")) == {*names} - {names[3]}


def die_with(world: World, names: list[str]) -> None:
    """A run has entered files for the way to the server, and dies."""
    with world.run("dead") as run:
        sent = world.sent(run, names)
        facts = run.services.look_at(world.here, [each.dataset.path for each in sent])
        waiting = [_waiting(each, facts[each.dataset.path].size) for each in sent]
        run.ledger.arrivals.enter(Route(source="here", destination="there"), waiting, run_id="dead")
        os._exit(0)


def test_what_a_dead_run_had_left_goes_with_the_next(world: World) -> None:
    left, new = world.files(3), [world.file("raw/new.dat")]
    child = os.fork()
    if child == 0:
        try:
            die_with(world, left)
        finally:
            os._exit(1)  # whatever happens, it is no second test run
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with world.run("next") as run:
        done = world.carry(run, new)
        assert {scan.path.text for scan in done.scans.values()} == {*left, *new}
        assert len(done.copies) == 4
        assert len(transfers(run, [*left, *new])) == 1
        run.ledger.arrivals.settle(list(done.scans), run_id="next")
        run.ledger.runs.finish("next", RunState.COMPLETED)
    with world.run("third") as run:
        assert world.carry(run, []).scans == {}


def test_what_a_live_run_has_is_left_to_it(world: World) -> None:
    names = world.files(2)
    with world.run("first") as first, world.run("second") as second:
        assert len(world.carry(first, names[:1]).scans) == 1
        assert len(world.carry(second, names[1:]).scans) == 1


@pytest.mark.slow
def test_a_thousand_go_quickly_and_progress_is_not_slowed_by_them(world: World) -> None:
    names = world.files(1000)
    with world.run() as run:
        sent = world.sent(run, names)
        began = time.monotonic()
        done = world.carry(run, names)
        assert len(done.copies) == 1000
        assert time.monotonic() - began < 120.0
        (record,) = transfers(run, names[:1])
        assert len(run.ledger.operations.scans_of(record.key)) == len(sent)
