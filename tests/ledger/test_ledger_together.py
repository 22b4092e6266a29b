"""Several runs that want the same operation: one works, the others wait; who is dead is followed."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ledger_world import QUICK, Books, Clock, Errand, attempts_of, errand, gone

from orchestration.errors import JobFailed, LeaseLost, LedgerError
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.lease import Lease
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Status

PATIENCE = 60.0

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from ledger_world import QUICK, Books, errand
from orchestration.errors import OrchestrationError
from orchestration.ledger import Ledger
from orchestration.ledger.perform import perform
with Ledger(sys.argv[2]) as ledger:
    scan = ledger.scans.get(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        outcome = perform(ledger, errand(scan, polls=20, fails=sys.argv[5]), Books(Path(sys.argv[4])), schedule=QUICK)
        print(outcome.evidence["handle"])
    except OrchestrationError as error:
        print(type(error).__name__, error.cause)
"""


@pytest.mark.parametrize("fails", ["", "cold"])
def test_of_two_processes_one_works_and_both_get_its_outcome(
    ledger: Ledger, scan: Scan, books: Books, fails: str
) -> None:
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), ledger.url, scan.id, str(books.root), fails]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=120)[0].strip() for child in children]

    assert said[0] == said[1] == (books.started()[0] if not fails else "JobFailed Planted")
    assert attempts_of(errand(scan, polls=20, fails=fails), books) == [1]


def test_of_many_threads_one_works_and_all_get_its_outcome(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, polls=5)

    def one(_: int) -> Outcome:
        return perform(ledger, operation, books, schedule=QUICK)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(one, range(8)))
    assert attempts_of(operation, books) == [1]
    assert sorted(outcome.already_done for outcome in outcomes) == [False] + [True] * 7
    assert len({str(outcome.evidence) for outcome in outcomes}) == 1


def test_those_who_wait_get_the_same_failure_and_do_not_try_again(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, polls=20, fails="cold")

    def one(_: int) -> str:
        with pytest.raises(JobFailed) as caught:
            perform(ledger, operation, books, schedule=QUICK)
        return caught.value.sentence

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(4)))) == 1
    assert attempts_of(operation, books) == [1]


def test_what_a_dead_process_of_this_host_holds_is_taken_at_once(ledger: Ledger, scan: Scan, books: Books) -> None:
    here = Owner.here()
    dead = Owner(here.host, gone(), "1", "dead")
    assert dead.certainly_dead()
    with Ledger(ledger.url, lease_seconds=3600) as patient:
        patient.operations.take(errand(scan), dead, service=books.name, redo=True)
        perform(patient, errand(scan), books, schedule=QUICK)  # or it would wait for an hour


def test_a_number_that_was_given_to_another_process_is_not_the_owner(ledger: Ledger) -> None:
    here = Owner.here()
    assert not here.certainly_dead()
    assert Owner(here.host, here.pid, "before", "x").certainly_dead()
    assert not Owner("another-host", here.pid, "before", "x").certainly_dead()


def test_the_owner_survives_its_text() -> None:
    owner = Owner("strange/host:1", 12, "34", "abc")
    assert Owner.parse(str(owner)) == owner


def test_the_lease_of_another_host_is_waited_for_and_then_taken(ledger: Ledger, scan: Scan, books: Books) -> None:
    stranger, clock, waits = Owner("another-host", 1, "1", "x"), Clock(), list[str]()

    def time_passes(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.IN_WAIT:
            waits.append(subject)
            clock.advance(4.0)

    with Ledger(ledger.url, lease_seconds=10.0, clock=clock) as timed, listening(time_passes):
        timed.operations.take(errand(scan), stranger, service=books.name, redo=True)
        perform(timed, errand(scan), books, schedule=QUICK)
    assert len(waits) == 3

    key, rows = errand(scan).key, ledger.operations
    writes: list[Callable[[], object]] = [
        lambda: rows.renew(key, stranger),
        lambda: rows.permitted(errand(scan), stranger, token="t"),
        lambda: rows.submitted(key, stranger, "h", adopted=False),
        lambda: rows.progressed(key, stranger, {}),
        lambda: rows.failed(key, stranger, LedgerError("no"), {}),
        lambda: rows.noted(key, stranger, "no", {}),
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    ledger.operations.release(errand(scan).key, stranger)
    assert ledger.operations.get(errand(scan).key).state is OperationState.SUCCEEDED
    assert [event.event for event in ledger.operations.history(errand(scan).key)].count("succeeded") == 1


def test_who_was_thought_dead_before_it_submitted_does_not_submit(ledger: Ledger, scan: Scan, books: Books) -> None:
    """A laptop that slept between the token and the submission, while another run did the work."""
    operation = errand(scan)

    def sleeps(boundary: Boundary, _subject: str) -> None:
        if boundary is Boundary.BEFORE_RESERVE and not asleep.is_set():
            asleep.set()
            assert ledger.operations._database is not None
            thief = Owner("another-host", 1, "1", "thief")
            with ledger.operations._database.write("operations") as connection:
                connection.exec_driver_sql(f"update operations set owner = '{thief}', token = 'other'")

    asleep = threading.Event()
    with listening(sleeps), pytest.raises(LeaseLost):
        perform(ledger, operation, books, schedule=QUICK)
    assert "submit" not in books.asked
    assert ledger.operations.get(operation.key).token == "other"


def test_who_was_thought_dead_during_the_wait_stops_and_leaves_it_alone(
    ledger: Ledger, scan: Scan, books: Books
) -> None:
    operation = errand(scan, polls=10**6)
    thief = Owner("another-host", 1, "1", "thief")

    def steal() -> None:
        with ledger.operations._database.write("operations") as connection:
            connection.exec_driver_sql(f"update operations set owner = '{thief}'")

    books.before["poll"] = steal
    with pytest.raises(LeaseLost):
        perform(ledger, operation, books, schedule=QUICK)
    left = ledger.operations.get(operation.key)
    assert (left.state, left.owner) == (OperationState.RUNNING, str(thief))
    assert "cancel" not in books.asked


def test_a_slow_submission_keeps_its_claim(ledger: Ledger, scan: Scan, books: Books, tmp_path: Path) -> None:
    """It takes two leases; the one who waits must not take over."""
    entered, waits, clock = threading.Event(), threading.Event(), Clock()
    renewed: queue.SimpleQueue[float] = queue.SimpleQueue()

    def listen(boundary: Boundary, _subject: str) -> None:
        if boundary is Boundary.AFTER_WRITE and threading.current_thread().name == "lease":
            renewed.put(clock())
        if boundary is Boundary.IN_WAIT:
            waits.set()

    def slow() -> None:
        entered.set()
        assert waits.wait(PATIENCE)
        for _ in range(4):
            while renewed.get(timeout=PATIENCE) < clock():
                pass
            clock.advance(0.15)

    books.before["submit"] = slow
    with Ledger(ledger.url, lease_seconds=0.3, clock=clock) as hasty, ThreadPoolExecutor(1) as pool, listening(listen):
        first = pool.submit(lambda: perform(hasty, errand(scan), books, schedule=QUICK))
        assert entered.wait(PATIENCE)
        second = perform(hasty, errand(scan), Books(books.root), schedule=QUICK)
        assert not first.result().already_done
    assert second.already_done
    assert attempts_of(errand(scan), books) == [1]


def test_a_lease_outlives_a_database_that_was_away_for_a_moment(caplog: pytest.LogCaptureFixture) -> None:
    renewed = threading.Event()
    asked = []

    def renew() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise LedgerError("the database restarts")
        renewed.set()

    with Lease(renew, seconds=0.06) as lease:
        assert renewed.wait(PATIENCE)
        lease.check()
    assert "could not be renewed" in caplog.text


def test_a_lost_lease_is_told_to_the_one_who_works() -> None:
    def renew() -> None:
        lost.set()
        raise LeaseLost("taken")

    lost = threading.Event()
    with Lease(renew, seconds=0.03) as lease:
        assert lost.wait(PATIENCE)
        lease._thread.join(PATIENCE)  # it has nothing left to do
        with pytest.raises(LeaseLost):
            lease.check()


def test_waiting_for_a_run_that_gives_up_carries_on(ledger: Ledger, scan: Scan, books: Books) -> None:
    class Broken(Books):
        def poll(self, request: Errand, handle: str) -> Status:
            entered.set()
            assert waits.wait(PATIENCE)
            raise KeyError("a defect")

    entered, waits = threading.Event(), threading.Event()

    def listen(boundary: Boundary, _subject: str) -> None:
        if boundary is Boundary.IN_WAIT:
            waits.set()

    with ThreadPoolExecutor(1) as pool, listening(listen):
        first = pool.submit(lambda: perform(ledger, errand(scan), Broken(books.root), schedule=QUICK))
        assert entered.wait(PATIENCE)
        perform(ledger, errand(scan), books, schedule=QUICK)
        with pytest.raises(KeyError):
            first.result()
    assert attempts_of(errand(scan), books) == [1]
