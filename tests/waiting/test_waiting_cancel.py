"""`beamline cancel`: whatever a scan has going on ends, is confirmed, or is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from waiting_world import (
    QUICK,
    BulkSite,
    RememberedRuns,
    Settling,
    Site,
    SitesOnly,
    in_doubt,
    job,
    leave,
    suspend,
    wait_until,
)

from orchestration.errors import Cancelled, OrchestrationError
from orchestration.flows import stopping
from orchestration.flows.cancelling import end_run
from orchestration.flows.stopping import cancel_scan
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.cancel import cancel
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer
from orchestration.sandbox.testing import submit
from orchestration.scicat import ScicatIngest

CANCELLED, FINISHED, UNKNOWN = CancelAnswer.CANCELLED, CancelAnswer.ALREADY_FINISHED, CancelAnswer.UNKNOWN


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.ledger.cancel.CONFIRM_SECONDS", 0.2)


def answers(ledger: Ledger, scan: Scan, *sites: Site, prefect: RememberedRuns | None = None) -> dict[str, CancelAnswer]:
    services = SitesOnly(*sites, prefect=prefect or RememberedRuns())
    return {each.what: each.answer for each in cancel_scan(ledger, services, scan)}


def waiting_run(ledger: Ledger, prefect: RememberedRuns, scan: Scan, site: Site, run_id: str) -> Operation[JobSpec]:
    operation = job(scan, run_id)
    suspend(ledger, prefect, run_id, leave(ledger, operation, site, run_id=run_id))
    ledger.runs.carries(run_id, scan.id)
    return operation


def state_of(ledger: Ledger, run_id: str) -> RunState:
    record = ledger.runs.get(run_id)
    assert record is not None
    return record.state


@contextmanager
def live_run(ledger: Ledger, scan: Scan, site: Site, run_id: str, *names: str) -> Iterator[list[Exception]]:
    """A process that does one job after the other, and what ended it."""
    ended: list[Exception] = []

    def process() -> None:
        ledger.runs.begin(run_id=run_id, flow="f", parameters={}, owner=Owner.here(), scan_id=scan.id)
        try:
            for name in names:
                perform(ledger, job(scan, name), site, schedule=QUICK, run_id=run_id)
        except Cancelled as error:
            ended.append(error)
            ledger.runs.finish(run_id, RunState.CANCELLED, error)

    thread = threading.Thread(target=process)
    thread.start()
    wait_until(lambda: site.submitted)
    yield ended
    thread.join(60.0)
    assert not thread.is_alive()


@dataclass
class Finishing(BulkSite):
    """Its jobs end at the moment in which they are cancelled."""

    def cancel(self, handle: str) -> CancelAnswer:
        self.end(handle)
        return CancelAnswer.ALREADY_FINISHED


def test_a_live_run_whose_job_ends_at_that_moment_begins_no_other(ledger: Ledger, scan: Scan) -> None:
    site = Finishing()
    with live_run(ledger, scan, site, "r", "first", "second") as ended:
        said = answers(ledger, scan, site)
    assert said == {"compute first": FINISHED, "run of f": CANCELLED}
    assert [error.what for error in ended if isinstance(error, Cancelled)] == [
        "this run was cancelled: it begins nothing more"
    ]
    assert len(site.submitted) == 1


def test_a_run_that_ends_with_its_cancelled_job_is_not_told_of_twice(ledger: Ledger, scan: Scan) -> None:
    site = BulkSite()
    with live_run(ledger, scan, site, "r", "first", "second"):
        assert answers(ledger, scan, site) == {"compute first": CANCELLED}
    assert state_of(ledger, "r") is RunState.CANCELLED
    assert answers(ledger, scan, site) == {}


def test_a_suspended_run_whose_job_is_over_does_not_go_on(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    operation = waiting_run(ledger, prefect, scan, site, "w")
    site.end(str(ledger.operations.get(operation.key).handle))

    assert answers(ledger, scan, site, prefect=prefect) == {"compute w": FINISHED, "run of f": CANCELLED}

    assert state_of(ledger, "w") is RunState.CANCELLED
    assert prefect.known["w"].is_cancelled()
    assert ledger.operations.get(operation.key).state is OperationState.SUCCEEDED
    assert answers(ledger, scan, site, prefect=prefect) == {}


def test_a_process_that_does_not_end_is_told_of(ledger: Ledger, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is between two steps, Prefect does not know it, and nobody can stop it; it will begin nothing more."""
    monkeypatch.setattr(stopping, "ENDING_SECONDS", 0.1)
    ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here(), scan_id=scan.id)
    (said,) = cancel_scan(ledger, SitesOnly(prefect=RememberedRuns()), scan)
    assert (said.what, said.answer) == ("run of f", UNKNOWN)
    assert said.why == "its process goes on; it begins nothing more"
    with pytest.raises(Cancelled, match="begins nothing more"):
        perform(ledger, job(scan, "next"), BulkSite(), schedule=QUICK, run_id="r")


def test_one_service_that_is_gone_keeps_no_other_from_being_cancelled(ledger: Ledger, scan: Scan) -> None:
    gone, broken, sound = (BulkSite(name=f"nersc.jobs@{name}") for name in ("gone", "broken", "sound"))
    for site in (gone, broken, sound):
        leave(ledger, job(scan, site.name), site, run_id="r")
    broken.__dict__["cancel"] = lambda handle: handle.no_such_thing

    said = {each.what: each for each in cancel_scan(ledger, SitesOnly(broken, sound), scan)}

    assert {what: each.answer for what, each in said.items()} == {
        "compute nersc.jobs@gone": UNKNOWN,
        "compute nersc.jobs@broken": UNKNOWN,
        "compute nersc.jobs@sound": CANCELLED,
    }
    assert "there is no compute site nersc.jobs@gone" in said["compute nersc.jobs@gone"].why
    assert "AttributeError" in said["compute nersc.jobs@broken"].why
    assert sound.cancels


def test_two_operations_of_the_same_name_have_an_answer_each(ledger: Ledger, scan: Scan) -> None:
    deaf, sound = BulkSite(name="nersc.jobs@one", confirms=False), BulkSite(name="nersc.jobs@two")
    for name, site in (("x", deaf), ("y", sound)):
        leave(ledger, replace(job(scan, name), step="reconstruct"), site, run_id=name)
    said = cancel_scan(ledger, SitesOnly(deaf, sound), scan)
    assert [each.what for each in said] == ["reconstruct", "reconstruct"]
    assert {each.answer for each in said} == {UNKNOWN, CANCELLED}


def test_all_are_asked_to_end_before_any_is_waited_for(ledger: Ledger, scan: Scan) -> None:
    """Who is killed after half a minute has passed the wish on; and one service that hangs holds up no other."""
    together = threading.Barrier(3, timeout=60.0)

    @dataclass
    class Slow(BulkSite):
        def cancel(self, handle: str) -> CancelAnswer:
            assert all(each.cancel_requested for each in ledger.operations.open())
            together.wait()
            return super().cancel(handle)

    site = Slow()
    for name in ("a", "b", "c"):
        leave(ledger, job(scan, name), site, run_id="r")
    assert set(answers(ledger, scan, site).values()) == {CANCELLED}


def test_a_submission_in_doubt_is_asked_about_until_its_service_must_know(ledger: Ledger, scan: Scan) -> None:
    site = Settling(after=20)  # a second: five times as long as what is not in doubt is asked about
    operation = in_doubt(ledger, scan, site)
    said = cancel(ledger, operation.key, site, operation.request)
    assert (said.answer, said.why) == (UNKNOWN, "it may still be on its way")

    site.asked_for.clear()
    said = cancel(ledger, operation.key, site, operation.request, settle_seconds=60.0)
    assert said.answer is CANCELLED
    assert ledger.operations.get(operation.key).state is OperationState.CANCELLED


def test_what_is_done_when_it_is_submitted_does_not_go_on(ledger: Ledger, scan: Scan) -> None:
    """Nobody can read back what was asked for, and nobody has to."""

    @dataclass
    class Catalogue(Site):
        immediate: bool = True

    assert ScicatIngest.immediate
    site = Catalogue()
    operation = in_doubt(ledger, scan, site)
    assert cancel(ledger, operation.key, site).answer is CANCELLED

    owner = Owner.here()
    ledger.operations.take(operation, owner, service=site.name, redo=True)
    ledger.operations.permitted(operation, owner, token="second", site=site.place)
    ledger.operations.submitted(operation.key, owner, submit(site, operation.request, "second"), adopted=False)
    ledger.operations.release(operation.key, owner)
    site.end("second")
    assert cancel(ledger, operation.key, site).answer is FINISHED
    assert ledger.operations.get(operation.key).state is OperationState.CANCELLED


def test_a_run_is_not_cancelled_until_all_of_it_has_ended(ledger: Ledger, scan: Scan) -> None:
    site = BulkSite(confirms=False)
    ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here(), scan_id=scan.id)
    leave(ledger, job(scan, "a"), site, run_id="r")

    end_run(ledger, SitesOnly(site), "r")

    record = ledger.runs.get("r")
    assert record is not None
    assert record.state is RunState.CANCELLING
    assert isinstance(record.error, OrchestrationError)
    assert record.error.what == "cancelled by a person, but not everything has ended: compute a: unknown"

    site.confirms = True
    end_run(ledger, SitesOnly(site), "r")
    assert state_of(ledger, "r") is RunState.CANCELLED


def test_a_run_that_is_being_cancelled_stays_so_in_a_new_process(ledger: Ledger, scan: Scan) -> None:
    """A worker may have been about to start it again."""
    site, prefect = BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    assert ledger.runs.request_cancel("r")
    ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here())
    assert state_of(ledger, "r") is RunState.CANCELLING
    assert not ledger.runs.dead()
    with pytest.raises(Cancelled):
        perform(ledger, job(scan, "next"), site, schedule=QUICK, run_id="r")
