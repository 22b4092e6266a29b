"""What a person cancels ends with that; of what is for other scans as well, nothing ends that is not named."""

from __future__ import annotations

import uuid
from functools import partial

import pytest
from batching_world import World, arrived, batch

from orchestration.errors import Cancelled, RunFailed, TransferFailed
from orchestration.flows.bl832.dispatcher import Branch, _report
from orchestration.flows.cancelling import Answered
from orchestration.flows.stopping import cancel_scan
from orchestration.flows.work import Work
from orchestration.ledger.arrivals import Limits, Route
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer, Document
from orchestration.paths import RelativePath


def begun(work: Work, *, scan: Scan | None = None, dead: bool = False) -> str:
    run_id, here = str(uuid.uuid4()), Owner.here()
    owner = Owner(here.host, here.pid, "another time", "x") if dead else here
    scan_id = None if scan is None else scan.id
    work.ledger.runs.begin(run_id=run_id, flow="new_files_flow", parameters={}, owner=owner, scan_id=scan_id)
    return run_id


def gathered(world: World, work: Work, route: Route, run_id: str) -> str:
    limits = Limits(files=10, bytes=10**9, seconds=0.0)
    make = partial(batch, world)
    key = work.ledger.arrivals.gather(route, limits, make, service="local.transfer", run_id=run_id)
    assert key is not None
    return key


def cancelled(work: Work, scan: Scan, *, whole_batch: bool = False) -> dict[str, Answered]:
    answers = cancel_scan(work.ledger, work.services, scan, whole_batch=whole_batch)
    return {each.key: each for each in answers}


def state(work: Work, run_id: str) -> RunState:
    record = work.ledger.runs.get(run_id)
    assert record is not None
    return record.state


def test_a_run_that_has_others_as_well_goes_on_and_is_named_with_them(world: World) -> None:
    with world.run() as work:
        mine, other = (each.scan for each in world.sent(work, world.files(2)))
        run_id = begun(work)
        route = arrived(world, work, [mine, other], run_id)
        answers = cancelled(work, mine)
        assert answers.keys() == {run_id}
        assert (answers[run_id].others, answers[run_id].spared) == ((other.path.text,), True)
        assert not answers[run_id].certain
        assert state(work, run_id) is RunState.RUNNING
        gathered(world, work, route, run_id)
        assert cancelled(work, mine).keys() == {run_id}
        assert [each.cancel_requested for each in work.ledger.operations.of_scan(mine.id)] == [False]


def test_the_whole_batch_is_cancelled_if_that_is_what_a_person_wants(world: World) -> None:
    with world.run() as work:
        mine, other = (each.scan for each in world.sent(work, world.files(2)))
        run_id = begun(work, dead=True)
        key = gathered(world, work, arrived(world, work, [other, mine], run_id), run_id)
        answers = cancelled(work, mine, whole_batch=True)
        assert answers[key].certain
        assert (answers[run_id].answer, answers[run_id].others) == (CancelAnswer.CANCELLED, (other.path.text,))
        assert state(work, run_id) is RunState.CANCELLED
        assert work.ledger.operations.get(key).state is OperationState.CANCELLED
        assert cancelled(work, mine) == {}


def test_a_run_of_its_own_ends_and_the_transfer_that_another_run_has_made_for_both_goes_on(world: World) -> None:
    with world.run() as work:
        mine, other = (each.scan for each in world.sent(work, world.files(2)))
        own, theirs = begun(work, scan=mine, dead=True), begun(work, scan=other)
        arrived(world, work, [mine], own)
        key = gathered(world, work, arrived(world, work, [other], theirs), theirs)
        answers = cancelled(work, mine)
        assert (answers[own].answer, answers[theirs].spared) == (CancelAnswer.CANCELLED, True)
        assert (state(work, own), state(work, theirs)) == (RunState.CANCELLED, RunState.RUNNING)
        assert not work.ledger.operations.get(key).cancel_requested


def test_what_a_run_that_failed_had_left_is_taken_over_by_no_other(world: World) -> None:
    with world.run() as work:
        mine, other = (each.scan for each in world.sent(work, world.files(2)))
        run_id = begun(work)
        route = arrived(world, work, [mine, other], run_id)
        work.ledger.runs.finish(run_id, RunState.FAILED, TransferFailed("no space", where="there"))
        (answer,) = cancelled(work, mine).values()
        assert (answer.key, answer.answer) == (mine.id, CancelAnswer.CANCELLED)
        assert cancelled(work, mine) == {}
        assert [each.scan_id for each in work.ledger.arrivals.take_over(route, run_id=begun(work))] == [other.id]


def test_a_dataset_whose_turn_in_a_batch_has_not_come_is_known_by_its_folder(world: World) -> None:
    with world.run() as work:
        batches, run_id = work.ledger.batches, begun(work)
        first, second, done = (
            work.ledger.scans.register(beamline="aps8idi", path=RelativePath(f"2026-1/babnigg/{name}"))
            for name in "abc"
        )
        names: dict[str, Document] = {each.path.name: {"folder": each.path.text} for each in (first, second, done)}
        about = {"flow": "xpcs_batch_flow", "name": "babnigg", "run_id": run_id}
        batches.begin(id="ba7c4", **about, beamline="aps8idi", parameters={}, items=names)
        batches.begin(id="0e15e", **about, beamline="bl733", parameters={}, items={"x": names["c"]})
        batches.take("ba7c4", "c", scan_id=done.id)
        batches.done("ba7c4", "c", evidence={})
        for mine, other in ((first, "b"), (second, "a")):
            answers = cancelled(work, mine)
            assert {key: (each.spared, each.others) for key, each in answers.items()} == {run_id: (True, (other,))}
        assert cancelled(work, done) == {}
        assert state(work, run_id) is RunState.RUNNING


def test_a_dispatcher_that_is_cancelled_after_a_branch_has_failed_is_cancelled_and_names_both(world: World) -> None:
    branches = [
        Branch("cold", "failed", TransferFailed("no space", where="there")),
        Branch("late", "failed", Cancelled("cancelled by a person")),
    ]
    with world.run() as work:
        scan = world.sent(work, world.files(1))[0].scan
        with pytest.raises(RunFailed, match="cold: no space; late: cancelled by a person"):
            _report(work, scan, branches)  # a person cancelled that branch alone
        work.ledger.runs.request_cancel(work.run_id)
        with pytest.raises(Cancelled, match="cold: no space; late: cancelled by a person"):
            _report(work, scan, branches)
        with pytest.raises(RunFailed):
            _report(work, scan, branches[:1])
