"""Operations that carry very much: how they are planned, and that their rows stay short and tell all the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing

import pytest
from batching_world import World, arrived, batch

from orchestration.config import Endpoint
from orchestration.errors import SourceMissing
from orchestration.ledger.arrivals import Arrival, Limits
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.transfers import TransferRequest


def test_a_long_request_is_kept_apart_from_what_is_written_again_and_again(world: World) -> None:
    with world.run() as run:
        paths = [RelativePath(f"raw/2026/sample/scan_{number:06}.h5") for number in range(5000)]
        request = TransferRequest.of(paths, source=world.here, destination=world.there)
        scan = run.ledger.scans.register(beamline="bench", path=paths[0], fingerprint="1")
        operation = Operation(
            scan=scan, step="copy many", request=request, destination=world.there.place, deadline=60.0
        )
        owner = Owner.here()
        run.ledger.operations.take(operation, owner, service="local.transfer", redo=True)
        run.ledger.operations.progressed(operation.key, owner, {"bytes_done": 1})
        with closing(sqlite3.connect(world.folder / "ledger.sqlite")) as database:
            ((length,),) = database.execute("select length(request) from operations").fetchall()
        assert length < 1000
        for record in (run.ledger.operations.get(operation.key), *run.ledger.operations.open()):
            assert record.request == request.document()
            assert run.services.request_of(record) == request


def test_while_the_disk_is_looked_at_for_a_batch_others_may_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = Endpoint.followed
    looked: list[RelativePath] = []

    def followed(endpoint: Endpoint, path: RelativePath) -> RelativePath:
        with closing(sqlite3.connect(world.folder / "ledger.sqlite", timeout=0.5, isolation_level=None)) as other:
            other.execute("begin immediate")
            other.execute("rollback")
        looked.append(path)
        return follow(endpoint, path)

    monkeypatch.setattr(Endpoint, "followed", followed)
    with world.run() as run:
        assert len(world.carry(run, world.files(3)).copies) == 3
    assert len(set(looked)) == 3


def test_what_is_taken_while_a_batch_is_being_made_is_not_in_it(world: World) -> None:
    names = world.files(3)
    with world.run() as run:
        scans = [each.scan for each in world.sent(run, names)]
        route = arrived(world, run, scans, "run")
        chosen: list[list[str]] = []

        def make(members: Sequence[Arrival], known: Mapping[str, Scan]) -> Operation[TransferRequest]:
            chosen.append([each.scan_id for each in members])
            if len(chosen) == 1:
                run.ledger.arrivals.fail(members[1], SourceMissing("it is gone", where="here"))
            return batch(world, members, known)

        limits = Limits(files=10, bytes=10**9, seconds=0.0)
        key = run.ledger.arrivals.gather(route, limits, make, service="local.transfer", run_id="run")
        first, second, third = (each.id for each in scans)
        assert chosen == [[first, second, third], [first, third]]
        assert key is not None
        assert [each.scan_id for each in run.ledger.arrivals.of_operation(key)] == [first, third]
        assert {*run.ledger.operations.scans_of(key)} == {first, third}
