"""How a scan stands, when flows start flows and people mend what failed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest
from ledger_world import Errand, errand

from orchestration.errors import Cancelled, JobFailed, RunFailed
from orchestration.ledger import Ledger
from orchestration.ledger.overview import ScanState, overview
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer, Failed, Status, Succeeded
from orchestration.policy import Permitted, opened


def run(ledger: Ledger, scan: Scan, flow: str, *, fails: str = "") -> str:
    """A run of that flow, from its beginning to its end."""
    run_id = str(uuid.uuid4())
    ledger.runs.begin(run_id=run_id, flow=flow, parameters={}, owner=Owner.here(), scan_id=scan.id)
    if fails:
        ledger.runs.finish(run_id, RunState.FAILED, JobFailed(fails))
    else:
        ledger.runs.finish(run_id, RunState.COMPLETED)
    return run_id


@dataclass
class Flows:
    """A service that starts flows; each ends at once."""

    ledger: Ledger
    scan: Scan
    name: str = "test.flows"

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: Errand, token: str) -> str | None:
        return None

    def submit(self, permitted: Permitted[Errand], token: str) -> str:
        request = opened(permitted, Errand)
        return run(self.ledger, self.scan, request.name, fails=request.fails)

    def poll(self, request: Errand, handle: str) -> Status:
        return Failed(error=RunFailed(request.fails)) if request.fails else Succeeded()

    def cancel(self, handle: str) -> CancelAnswer:
        return CancelAnswer.ALREADY_FINISHED


def dispatch(ledger: Ledger, scan: Scan, *, move: str = "", reconstruct: str = "") -> None:
    """A dispatcher as that of 8.3.2: the second flow is begun only if the first one has completed."""
    run_id = str(uuid.uuid4())
    ledger.runs.begin(run_id=run_id, flow="dispatcher", parameters={}, owner=Owner.here(), scan_id=scan.id)
    try:
        for name, fails in (("move", move), ("reconstruct", reconstruct)):
            perform(ledger, errand(scan, name, fails=fails), Flows(ledger, scan), run_id=run_id)
    except RunFailed as error:
        ledger.runs.finish(run_id, RunState.FAILED, error)
    else:
        ledger.runs.finish(run_id, RunState.COMPLETED)


def test_a_scan_that_nobody_carried_is_registered(ledger: Ledger, scan: Scan) -> None:
    assert overview(ledger, scan).state is ScanState.REGISTERED


def test_a_dispatcher_and_its_flows_complete(ledger: Ledger, scan: Scan) -> None:
    dispatch(ledger, scan)
    found = overview(ledger, scan)
    assert found.state is ScanState.COMPLETED
    assert found.error is None


def test_the_error_is_that_of_the_flow_that_failed_not_of_the_one_that_waited(ledger: Ledger, scan: Scan) -> None:
    dispatch(ledger, scan, reconstruct="no center was found")
    found = overview(ledger, scan)
    assert found.state is ScanState.FAILED
    assert isinstance(found.error, JobFailed)
    assert found.error.what == "no center was found"


def test_a_reconstruction_that_succeeds_later_makes_the_scan_good(ledger: Ledger, scan: Scan) -> None:
    dispatch(ledger, scan, reconstruct="no center was found")
    run(ledger, scan, "reconstruct")
    assert overview(ledger, scan).state is ScanState.COMPLETED
    run(ledger, scan, "reconstruct", fails="no center was found again")
    assert overview(ledger, scan).state is ScanState.FAILED


def test_a_scan_whose_reconstruction_was_never_begun_is_not_good_when_it_has_moved(ledger: Ledger, scan: Scan) -> None:
    dispatch(ledger, scan, move="the disk is full")
    run(ledger, scan, "move")
    assert overview(ledger, scan).state is ScanState.FAILED
    dispatch(ledger, scan)
    assert overview(ledger, scan).state is ScanState.COMPLETED


@pytest.mark.parametrize("flow", ["reconstruct", "move"])
def test_what_failed_by_itself_stays_failed_whatever_else_completes(ledger: Ledger, scan: Scan, flow: str) -> None:
    run(ledger, scan, flow, fails="no")
    run(ledger, scan, "another")
    assert overview(ledger, scan).state is ScanState.FAILED


def test_a_refused_deletion_is_told_and_leaves_the_scan_as_it_is(ledger: Ledger, scan: Scan) -> None:
    run(ledger, scan, "new_832_file_flow")
    run(ledger, scan, "prune_spot832", fails="no other copy")
    found = overview(ledger, scan)
    assert (found.state, found.error) == (ScanState.COMPLETED, None)
    assert [refusal.what for refusal in found.refusals] == ["no other copy"]
    run(ledger, scan, "prune_spot832")
    assert not overview(ledger, scan).refusals


def test_a_scan_is_being_cancelled_until_everything_has_stopped(ledger: Ledger, scan: Scan) -> None:
    ledger.runs.begin(run_id="r", flow="reconstruct", parameters={}, owner=Owner.here(), scan_id=scan.id)
    assert ledger.runs.request_cancel("r")
    assert not ledger.runs.request_cancel("r")
    ledger.runs.not_cancelled_yet("r", Cancelled("the job has not confirmed"))
    found = overview(ledger, scan)
    assert found.state is ScanState.CANCELLING
    assert found.error is not None
    assert found.error.what == "the job has not confirmed"

    assert ledger.runs.cancelled("r", Cancelled("cancelled by a person"))
    assert overview(ledger, scan).state is ScanState.CANCELLED
    assert not ledger.runs.cancelled("r", Cancelled("again"))


def in_a_batch(ledger: Ledger, scan: Scan, flow: str, *, fails: str = "") -> str:
    """A run of many scans, of which this one ends so."""
    run_id = str(uuid.uuid4())
    ledger.runs.begin(run_id=run_id, flow=flow, parameters={}, owner=Owner.here())
    batch, name = run_id[:8], scan.path.text
    about = {"flow": flow, "beamline": scan.beamline, "name": name, "run_id": run_id}
    ledger.batches.begin(id=batch, **about, parameters={}, items={name: {}})
    ledger.batches.take(batch, name, scan_id=scan.id)
    if fails:
        ledger.batches.fail(batch, name, JobFailed(fails))
    else:
        ledger.batches.done(batch, name, evidence={})
    ledger.runs.finish(run_id, RunState.FAILED, JobFailed("some have failed"))
    return run_id


@pytest.mark.parametrize(
    ("together", "alone"),
    [
        ("new_files_flow", "new_832_file_flow"),
        ("new_files_flow", "new_733_file_flow"),
        ("xpcs_batch_flow", "xpcs_online_flow"),
    ],
)
def test_what_failed_among_many_is_made_good_by_a_run_of_its_own_and_the_other_way_round(
    ledger: Ledger, scan: Scan, together: str, alone: str
) -> None:
    failed = in_a_batch(ledger, scan, together, fails="no space")
    run(ledger, scan, "another")
    assert overview(ledger, scan).state is ScanState.FAILED
    run(ledger, scan, alone)
    found = overview(ledger, scan)
    assert (found.state, found.error) == (ScanState.COMPLETED, None)
    assert [each.error.what for each in found.runs if each.id == failed and each.error] == ["no space"]

    run(ledger, scan, alone, fails="no space again")
    assert overview(ledger, scan).state is ScanState.FAILED
    in_a_batch(ledger, scan, together)
    assert overview(ledger, scan).state is ScanState.COMPLETED
