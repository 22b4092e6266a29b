"""The watcher asks each service once for all that waits, and lets runs go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.states import Running as RunningState
from waiting_world import QUICK, BulkSite, RememberedRuns, Site, SitesOnly, job, leave, suspend, wait_until

from orchestration.conditions import SiteState
from orchestration.errors import Cancelled, ConfigError, OrchestrationError, ServiceUnavailable
from orchestration.flows import watching
from orchestration.flows.polling import Subject
from orchestration.flows.threads import guarded
from orchestration.flows.watching import Watcher
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import PollSchedule, Status
from orchestration.ledger.waiting import Awaited


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "TURN_SECONDS", 0.02)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(watching, "LOOK_WELL_SECONDS", 0.3)
    monkeypatch.setattr(watching, "CONFIRM_SECONDS", 0.05)
    monkeypatch.setattr(watching, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(watching, "PACE", PollSchedule(first=0.1))
    monkeypatch.setattr(watching, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr("orchestration.ledger.cancel.CONFIRM_SECONDS", 0.3)


@contextmanager
def watching_over(ledger: Ledger, prefect: RememberedRuns, *sites: Site) -> Iterator[Watcher]:
    stop = threading.Event()
    watcher = Watcher(ledger, SitesOnly(*sites, prefect=prefect), prefect)
    thread = threading.Thread(target=watcher.run, args=(stop,))
    thread.start()
    try:
        yield watcher
    finally:
        stop.set()
        thread.join()


def waiting_run(
    ledger: Ledger, prefect: RememberedRuns, scan: Scan, site: Site, run_id: str, *, may_move: bool = False
) -> str:
    """A suspended run; the handle of its job."""
    operation = job(scan, run_id)
    suspend(ledger, prefect, run_id, leave(ledger, operation, site, run_id=run_id, may_move=may_move))
    return str(ledger.operations.get(operation.key).handle)


def state_of(ledger: Ledger, run_id: str) -> RunState:
    record = ledger.runs.get(run_id)
    assert record is not None
    return record.state


def error_of(ledger: Ledger, run_id: str) -> OrchestrationError | None:
    record = ledger.runs.get(run_id)
    assert record is not None
    return record.error


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
    site, other, prefect = BulkSite(poll_seconds=3600.0), BulkSite(name="nersc.jobs@south"), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    waiting_run(ledger, prefect, scan, other, "o")
    with watching_over(ledger, prefect, site, other):
        wait_until(lambda: site.asked and len(other.asked) > 5)
    assert site.asked == [1]


def test_the_ledger_is_told_how_far_waiting_operations_are(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    with watching_over(ledger, prefect, site):
        wait_until(lambda: (ledger.operations.open()[0].progress or {}).get("note") == "in the queue")


def test_two_watchers_ask_no_site_twice_and_one_takes_over_from_the_other(ledger: Ledger, scan: Scan) -> None:
    north, south, prefect = BulkSite(), BulkSite(name="nersc.jobs@south"), RememberedRuns()
    ends = waiting_run(ledger, prefect, scan, north, "n"), waiting_run(ledger, prefect, scan, south, "s")
    with watching_over(ledger, prefect, north, south) as first:
        with watching_over(ledger, prefect, north, south) as second:
            wait_until(lambda: first._mine and second._mine and not first._mine & second._mine)
            assert first._mine | second._mine == {north.name, south.name, watching.RUNS}
            assert len(ledger.watchers.alive()) == 2
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


@pytest.mark.parametrize("trouble", ["down", "silent"])
def test_runs_that_would_go_elsewhere_look_for_themselves_when_their_site_is_in_trouble(
    ledger: Ledger, scan: Scan, trouble: str
) -> None:
    """Only those: the others could do nothing, and would be a process each."""
    site, prefect = BulkSite(), RememberedRuns()
    site.begun.add(waiting_run(ledger, prefect, scan, site, "begun", may_move=True))
    waiting_run(ledger, prefect, scan, site, "queued", may_move=True)
    waiting_run(ledger, prefect, scan, site, "stays")
    suspend(ledger, prefect, "follows", leave(ledger, job(scan, "queued"), site, run_id="queued"))
    with watching_over(ledger, prefect, site):
        wait_until(lambda: site.asked)
        assert not prefect.resumed
        if trouble == "down":
            site.state = SiteState.DOWN
        else:
            site.silent = True
        wait_until(lambda: prefect.resumed)
        asked = len(site.asked)
        wait_until(lambda: len(site.asked) > asked + 2)
    assert prefect.resumed == ["queued"]


def test_a_run_that_found_nothing_to_do_about_a_trouble_is_left_alone_until_the_next(
    ledger: Ledger, scan: Scan
) -> None:
    site, prefect = BulkSite(state=SiteState.DOWN), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r", may_move=True)

    def leaves_again(watcher: Watcher) -> None:
        ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here())
        wait_until(lambda: not watcher._resume_at)
        suspend(ledger, prefect, "r", leave(ledger, job(scan, "r"), site, run_id="r", may_move=True))
        asked = len(site.asked)
        wait_until(lambda: len(site.asked) > asked + 3)

    with watching_over(ledger, prefect, site) as watcher:
        wait_until(lambda: prefect.resumed == ["r"])
        leaves_again(watcher)
        assert prefect.resumed == ["r"]
        site.state = SiteState.UP
        wait_until(lambda: not watcher._alarmed_at)
        site.state = SiteState.DOWN
        wait_until(lambda: prefect.resumed == ["r", "r"])


def test_a_site_that_is_not_in_the_settings_any_more_hands_its_runs_back_and_keeps_no_other_waiting(
    ledger: Ledger, scan: Scan
) -> None:
    gone, sound, prefect = BulkSite(name="nersc.jobs@gone"), BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, gone, "g", may_move=True)
    handle = waiting_run(ledger, prefect, scan, sound, "s")
    with watching_over(ledger, prefect, sound):
        wait_until(lambda: prefect.resumed == ["g"])
        sound.end(handle)
        wait_until(lambda: prefect.resumed == ["g", "s"])


def test_an_error_in_one_turn_does_not_end_the_watching(
    ledger: Ledger, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    handle = waiting_run(ledger, prefect, scan, site, "r")
    turns: list[ConfigError] = []
    poll_seconds = SitesOnly.poll_seconds

    def fails_once(services: SitesOnly, name: str) -> float:
        if not turns:
            turns.append(ConfigError("the settings are being written"))
            raise turns[0]
        return poll_seconds(services, name)

    monkeypatch.setattr(SitesOnly, "poll_seconds", fails_once)
    with watching_over(ledger, prefect, site):
        site.end(handle)
        wait_until(lambda: prefect.resumed == ["r"])
    assert turns


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
        suspend(ledger, prefect, name, {operation.key: Awaited(until=until)})
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
        wait_until(lambda: "not everything has ended: compute r: unknown" in str(error_of(ledger, "r")))
        assert state_of(ledger, "r") is RunState.CANCELLING
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


def test_what_several_cancelled_runs_had_waited_for_together_is_cancelled(ledger: Ledger, scan: Scan) -> None:
    site, prefect, operation = BulkSite(), RememberedRuns(), job(scan, "shared")
    for run in ("one", "two"):
        suspend(ledger, prefect, run, leave(ledger, operation, site, run_id=run))
        prefect.cancel(run)
    with watching_over(ledger, prefect, site):
        wait_until(lambda: {state_of(ledger, run) for run in ("one", "two")} == {RunState.CANCELLED})
    assert site.cancels
    assert ledger.operations.get(operation.key).state is OperationState.CANCELLED


def test_a_run_whose_worker_is_gone_hears_of_its_cancellation_and_begins_nothing_more(
    ledger: Ledger, scan: Scan
) -> None:
    """Nobody but the ledger can tell its process."""
    site, prefect = BulkSite(), RememberedRuns()
    ledger.runs.begin(run_id="r", flow="f", parameters={}, owner=Owner.here())
    prefect.known["r"] = RunningState()
    heard: list[Exception] = []

    def process() -> None:
        for name in ("first", "second"):
            try:
                perform(ledger, job(scan, name), site, schedule=QUICK, run_id="r")
            except Cancelled as error:
                heard.append(error)

    thread = threading.Thread(target=process)
    thread.start()
    wait_until(lambda: site.submitted)
    prefect.cancel("r")
    with watching_over(ledger, prefect, site):
        thread.join(60.0)
    assert [error.what for error in heard if isinstance(error, Cancelled)] == [
        "cancelled on request",
        "this run was cancelled: it begins nothing more",
    ]
    assert len(site.submitted) == len(site.cancels) == 1


def test_a_run_that_was_deleted_in_prefect_is_closed_and_its_job_left_alone(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    del prefect.known["r"]
    with watching_over(ledger, prefect, site):
        wait_until(lambda: state_of(ledger, "r") is RunState.DEAD)
    assert "was deleted while it waited" in str(error_of(ledger, "r"))
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

    Watcher(ledger, SitesOnly(site, prefect=prefect), prefect, notice=heard.append).once()

    assert heard == prefect.resumed == ["ended"]
    assert site.cancels == [cancelled]
    assert state_of(ledger, "cancelled") is RunState.CANCELLED
    assert not ledger.watchers.alive()


class SilentFirst(BulkSite):
    """It does not answer the first question, and may be asked again at once."""

    def poll_many(self, items: Sequence[tuple[JobSpec, str]]) -> Mapping[str, Status]:
        if self.asked:
            return super().poll_many(items)
        self.asked.append(len(items))
        raise ServiceUnavailable("no answer", where=self.name, retry_after=1e-6)


def test_looking_once_acts_on_an_answer_however_late_it_comes(
    ledger: Ledger, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PACE", PollSchedule(first=1e-6))
    site, prefect = SilentFirst(), RememberedRuns()
    site.end(waiting_run(ledger, prefect, scan, site, "ended"))
    Watcher(ledger, SitesOnly(site, prefect=prefect), prefect).once()
    assert prefect.resumed == ["ended"]


def test_work_that_was_not_done_says_nothing_of_its_service() -> None:
    subject = Subject("prefect")
    subject.silent(ServiceUnavailable("no answer", retry_after=60.0))
    guarded("a run", lambda: False, subject)
    assert subject.asked_again_in() is not None
    guarded("another run", lambda: True, subject)
    assert subject.asked_again_in() is None


def test_looking_once_asks_again_where_there_is_no_answer(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    handle = waiting_run(ledger, prefect, scan, site, "ended")
    site.silent = True
    prefect.away.set()
    thread = threading.Thread(target=Watcher(ledger, SitesOnly(site, prefect=prefect), prefect).once)
    thread.start()
    try:
        wait_until(lambda: len(site.asked) > 2)
        site.silent = False
        site.end(handle)
        asked = len(site.asked)
        wait_until(lambda: len(site.asked) > asked)
        prefect.away.clear()
    finally:
        thread.join()
    assert prefect.resumed == ["ended"]


def test_looking_once_ends_although_nobody_answers(ledger: Ledger, scan: Scan) -> None:
    site, prefect = BulkSite(), RememberedRuns()
    waiting_run(ledger, prefect, scan, site, "r")
    site.silent = True
    Watcher(ledger, SitesOnly(site, prefect=prefect), prefect).once(seconds=0.5)
    assert len(site.asked) > 1
    assert prefect.resumed == []


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


def test_the_queue_of_reconcile_is_free_again_when_its_run_has_died(ledger: Ledger) -> None:
    """Once dead ones have all its places, no other one would ever find them."""
    prefect = RememberedRuns()
    long_ago = datetime.now(UTC) - timedelta(seconds=200)
    dead = Owner(host=Owner.here().host, pid=2**22 - 1, started="0", nonce="n")
    owners = {"dead reconcile": dead, "live reconcile": Owner.here(), "ended reconcile": dead}
    for run_id, owner in owners.items():
        ledger.runs.begin(run_id=run_id, flow="reconcile", parameters={}, owner=owner)
        prefect.known[run_id] = RunningState()
    prefect.known["unheard reconcile"] = RunningState(timestamp=long_ago)
    prefect.known["young reconcile"] = RunningState()
    ledger.runs.finish("ended reconcile", RunState.COMPLETED)
    Watcher(ledger, SitesOnly(prefect=prefect), prefect).once()
    known = {run_id.partition(" ")[0]: state.name for run_id, state in prefect.known.items()}
    crashed = dict.fromkeys(("dead", "unheard"), "Crashed")
    assert known == {**crashed, "ended": "Completed", "live": "Running", "young": "Running"}
    assert [run.id for run in ledger.runs.in_state(RunState.DEAD)] == ["dead reconcile"]
