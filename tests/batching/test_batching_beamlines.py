"""Beamlines that share a way may call files of theirs the same: what becomes of one says nothing of the other."""

from __future__ import annotations

from batching_world import World

from orchestration.errors import TransferFailed
from orchestration.flows.arrivals import carry_new_files
from orchestration.ledger.arrivals import Route, Waiting
from orchestration.ledger.runs import RunState


def test_what_a_dead_run_of_another_beamline_had_left_fails_by_itself(world: World) -> None:
    other = world.add_beamline("other")
    (name,) = world.files(1)
    with world.run("dead") as run:
        theirs = run.ledger.scans.register(beamline=other.id, path=world.sent(run, [name])[0].scan.path)
        outdated = Waiting(scan_id=theirs.id, dataset="raw", path=theirs.path, version="of yesterday", size=1)
        run.ledger.arrivals.enter(Route(source="here", destination="there"), [outdated], run_id="dead")
        run.ledger.runs.finish("dead", RunState.FAILED, TransferFailed("no space", where="there"))
    with world.run("next") as run:
        done = carry_new_files(run, world.beamline, [name], is_export_control=False, send_to_nersc=False, catalogues={})
        (mine,) = (scan for scan in run.ledger.scans.latest() if scan.beamline == "bench")
        assert done["scans"] == [mine.id]
        assert [each.scan_id for each in run.ledger.arrivals.unsettled(run_id="next")] == [theirs.id]
