"""The watcher asks each service once for all that waits, and lets runs go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.states import Running as RunningState
from waiting_world import BulkSite, RememberedRuns, Site, SitesOnly, job, leave, suspend, wait_until

from orchestration.conditions import SiteState
from orchestration.flows import watching
from orchestration.flows.watching import Watcher
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import PollSchedule


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "TURN_SECONDS", 0.02)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(watching, "LOOK_WELL_SECONDS", 0.3)
    monkeypatch.setattr(watching, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(watching, "PACE", PollSchedule(first=0.1))
    monkeypatch.setattr(watching, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr("orchestration.ledger.cancel.CONFIRM_SECONDS", 0.3)


@contextmanager
def watching_over(ledger: Ledger, prefect: RememberedRuns, *sites: Site) -> Iterator[Watcher]:
    stop = threading.Event()
    watcher = Watcher(ledger, SitesOnly(*sites), prefect)
    thread = threading.Thread(target=watcher.run, args=(stop,))
    thread.start()
    try:
        yield watcher
    finally:
        stop.set()
        thread.join()


def waiting_run(ledger: Ledger, prefect: RememberedRuns, scan: Scan, site: Site, run_id: str) -> str:
    """A suspended run; the handle of its job."""
    operation = job(scan, run_id)
    suspend(ledger, prefect, run_id, leave(ledger, operation, site, run_id=run_id))
    return str(ledger.operations.get(operation.key).handle)


def state_of(ledger: Ledger, run_id: str) -> RunState:
    record = ledger.runs.get(run_id)
    assert record is not None
    return record.state


def test_one_question_covers_all_jobs_of_a_site_and_each_ended_one_is_resumed(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    handles = [waiting_run(ledger, prefect, scan, site, f"r{number}") for number in range(20)]
    with watching_over(ledger, prefect, site):
        wait_until(lambda: site.asked)
        assert set(site.asked) == {20}
        for number in (3, 7):
            site.end(handles[number])
        wait_until(lambda: len(prefect.resumed) == 2)
        wait_until(lambda: site.asked[-1] == 18)
    assert set(prefect.resumed) == {"r3", "r7"}


def test_a_site_is_asked_no_more_often_than_its_settings_allow(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(poll_seconds=40.0), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    with watching_over(ledger, prefect, site):
        wait_until(lambda: site.asked)
        time.sleep(0.5)
    assert site.asked == [1]


def test_the_ledger_is_told_how_far_waiting_operations_are(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    with watching_over(ledger, prefect, site):
        wait_until(lambda: (ledger.operations.open()[0].progress or {}).get("note") == "in the queue")


def test_two_watchers_ask_no_site_twice_and_one_takes_over_from_the_other(ledger: Ledger, scan: Scan) -> None:
    north, south, prefect = BulkSite(), BulkSite(name="nersc.jobs@south"), RememberedRuns()
    ends = waiting_run(ledger, prefect, scan, north, "n"), waiting_run(ledger, prefect, scan, south, "s")
    with watching_over(ledger, prefect, north, south):
        with watching_over(ledger, prefect, north, south):
            wait_until(lambda: len(north.asked) > 3 and len(south.asked) > 3)
            assert len(ledger.watchers.alive()) == 2
            before = time.monotonic(), len(north.asked), len(south.asked)
            time.sleep(1.0)
            most = (time.monotonic() - before[0]) / 0.1 + 1
            assert len(north.asked) - before[1] <= most
            assert len(south.asked) - before[2] <= most
        north.end(ends[0])
        south.end(ends[1])
        wait_until(lambda: set(prefect.resumed) == {"n", "s"})
    assert not ledger.watchers.alive()


def test_work_is_shared_and_what_a_dead_watcher_had_is_free(ledger: Ledger) -> None:
    first, second = Owner.here(), Owner.here()
    services = ["a", "b", "c", "d"]
    ledger.watchers.beat(first)
    assert ledger.watchers.take(services, first) == set(services)
    ledger.watchers.beat(second)
    assert ledger.watchers.take(services, second) == set()
    mine = ledger.watchers.take(services, first)
    assert len(mine) == 2
    assert ledger.watchers.take(services, second) == set(services) - mine
    ledger.watchers.leave(first)
    assert ledger.watchers.take(services, second) == set(services)


def test_a_watcher_whose_process_is_gone_counts_no_more(ledger: Ledger) -> None:
    here = Owner.here()
    ledger.watchers.beat(Owner(here.host, here.pid, "another time", "x"))
    assert not ledger.watchers.alive()


def test_a_silent_site_is_left_alone_longer_and_longer_and_asked_again(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(silent=False), RememberedRuns()
    handle = waiting_run(ledger, prefect, scan, site, "r")
    site.silent = True
    with watching_over(ledger, prefect, site):
        wait_until(lambda: site.asked)
        site.end(handle)
        assert not prefect.resumed
        site.silent = False
        wait_until(lambda: prefect.resumed == ["r"])


def test_one_site_that_fails_in_an_unplanned_way_does_not_keep_others_waiting(
    ledger: Ledger, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound, prefect = BulkSite(), BulkSite(name="nersc.jobs@south"), RememberedRuns()
    waiting_run(ledger, prefect, scan, broken, "b")
    handle = waiting_run(ledger, prefect, scan, sound, "s")
    broken.submitted.clear()  # its stand-in looks for what was submitted, and fails
    with watching_over(ledger, prefect, broken, sound):
        sound.end(handle)
        wait_until(lambda: prefect.resumed == ["s"])
        wait_until(lambda: "an error nobody planned for" in caplog.text)


def test_runs_whose_jobs_have_not_begun_look_for_themselves_when_their_site_goes_down(
    ledger: Ledger, scan: Scan
) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    site.begun.add(waiting_run(ledger, prefect, scan, site, "begun"))
    waiting_run(ledger, prefect, scan, site, "queued")
    with watching_over(ledger, prefect, site):
        wait_until(lambda: site.asked)
        assert not prefect.resumed
        site.state = SiteState.DOWN
        wait_until(lambda: prefect.resumed)
    assert prefect.resumed == ["queued"]


def test_a_site_that_does_not_answer_for_long_is_as_good_as_down(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    site.begun.add(waiting_run(ledger, prefect, scan, site, "begun"))
    waiting_run(ledger, prefect, scan, site, "queued")
    with watching_over(ledger, prefect, site):
        wait_until(lambda: site.asked)
        site.silent = True
        wait_until(lambda: prefect.resumed)
    assert prefect.resumed == ["queued"]


def test_while_prefect_is_away_sites_are_asked_and_runs_are_resumed_later(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    handle = waiting_run(ledger, prefect, scan, site, "r")
    prefect.away.set()
    with watching_over(ledger, prefect, site):
        site.end(handle)
        wait_until(lambda: site.asked)
        assert not prefect.resumed
        prefect.away.clear()
        wait_until(lambda: prefect.resumed == ["r"])


def test_what_the_ledger_knows_is_not_asked_for(ledger: Ledger, scan: Scan) -> None:
    """A deadline that has passed, a cancellation that was asked for, an operation that another run closed."""
    site, prefect = BulkSite(), RememberedRuns()
    for name, until in (("late", 0.0), ("wanted", 9e9), ("over", 9e9)):
        operation = job(scan, name)
        leave(ledger, operation, site)
        suspend(ledger, prefect, name, {operation.key: until})
    ledger.operations.request_cancel(job(scan, "wanted").key)
    owner = Owner.here()
    ledger.operations.claim(job(scan, "over").key, owner, redo=False)
    ledger.operations.succeeded(job(scan, "over").key, owner, {})
    with watching_over(ledger, prefect, site):
        wait_until(lambda: set(prefect.resumed) == {"late", "wanted", "over"})


def test_a_run_that_was_cancelled_while_it_waited_takes_its_job_with_it(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    handle = waiting_run(ledger, prefect, scan, site, "r")
    other = waiting_run(ledger, prefect, scan, site, "other")
    prefect.cancel("r")
    with watching_over(ledger, prefect, site):
        wait_until(lambda: state_of(ledger, "r") is RunState.CANCELLED)
    assert site.cancels == [handle]
    assert other not in site.ended
    assert ledger.operations.get(job(scan, "r").key).state is OperationState.CANCELLED
    assert state_of(ledger, "other") is RunState.WAITING


def test_a_cancellation_that_is_not_confirmed_is_asked_for_until_it_is(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(confirms=False), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    prefect.cancel("r")
    with watching_over(ledger, prefect, site):
        wait_until(lambda: len(site.cancels) > 2)
        assert state_of(ledger, "r") is RunState.WAITING
        site.confirms = True
        wait_until(lambda: state_of(ledger, "r") is RunState.CANCELLED)


def test_what_another_run_waits_for_as_well_is_not_cancelled(ledger: Ledger, scan: Scan) -> None:
    site, prefect, operation = BulkSite(), RememberedRuns(), job(scan, "shared")
    suspend(ledger, prefect, "one", leave(ledger, operation, site, run_id="one"))
    suspend(ledger, prefect, "two", leave(ledger, operation, site, run_id="two"))
    prefect.cancel("two")
    with watching_over(ledger, prefect, site):
        wait_until(lambda: state_of(ledger, "two") is RunState.CANCELLED)
        assert not site.cancels
        site.end(str(ledger.operations.get(operation.key).handle))
        wait_until(lambda: prefect.resumed == ["one"])


def test_a_run_that_was_deleted_in_prefect_is_closed_and_its_job_left_alone(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    del prefect.known["r"]
    with watching_over(ledger, prefect, site):
        wait_until(lambda: state_of(ledger, "r") is RunState.DEAD)
    record = ledger.runs.get("r")
    assert record is not None
    assert "was deleted while it waited" in str(record.error)
    assert not site.cancels


def test_a_server_that_knows_none_of_the_runs_is_taken_for_the_wrong_one(
    ledger: Ledger, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    for run in ("one", "two"):
        waiting_run(ledger, prefect, scan, site, run)
    prefect.known.clear()
    with watching_over(ledger, prefect, site):
        wait_until(lambda: "is PREFECT_API_URL right?" in caplog.text)
    assert {run.id for run in ledger.runs.waiting()} == {"one", "two"}


def test_a_run_whose_new_process_died_before_it_could_say_so_is_dead(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    prefect.known["r"] = RunningState(timestamp=datetime.now(UTC) - timedelta(hours=1))
    with watching_over(ledger, prefect, site):
        wait_until(lambda: [run.id for run in ledger.runs.dead()] == ["r"])


def test_looking_once_resumes_and_cancels_and_leaves_no_watcher_behind(ledger: Ledger, scan: Scan) -> None:
    site, prefect, heard = BulkSite(), RememberedRuns(), list[str]()
    ended = waiting_run(ledger, prefect, scan, site, "ended")
    cancelled = waiting_run(ledger, prefect, scan, site, "cancelled")
    waiting_run(ledger, prefect, scan, site, "goes on")
    site.end(ended)
    prefect.cancel("cancelled")

    Watcher(ledger, SitesOnly(site), prefect, notice=heard.append).once()

    assert heard == prefect.resumed == ["ended"]
    assert site.cancels == [cancelled]
    assert state_of(ledger, "cancelled") is RunState.CANCELLED
    assert not ledger.watchers.alive()


def test_a_service_that_cannot_be_asked_any_more_hands_its_operations_back_to_their_runs(
    ledger: Ledger, scan: Scan
) -> None:
    prefect = RememberedRuns()
    waiting_run(ledger, prefect, scan, BulkSite(), "r")
    with watching_over(ledger, prefect, Site()):
        wait_until(lambda: prefect.resumed == ["r"])


def test_a_resumed_run_keeps_its_beginning_and_knows_what_it_had_waited_for(
    ledger: Ledger, scan: Scan, tmp_path: Path
) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    before = ledger.runs.get("r")
    assert ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here()) == {job(scan, "r").key}
    after = ledger.runs.get("r")
    assert before is not None
    assert after is not None
    assert (after.state, after.started_at) == (RunState.RUNNING, before.started_at)
    ledger.runs.finish("r", RunState.FAILED)
    assert ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here()) == frozenset()
