"""Operations that carry very much: their rows stay short, and tell the whole request all the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from batching_world import World

from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
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
