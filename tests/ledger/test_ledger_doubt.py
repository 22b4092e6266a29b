"""`perform` with a service that is silent, says 'not now', loses its answers, or is told to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_world import QUICK, Books, Clock, Errand, attempts_of, errand, gone

from orchestration.errors import Cancelled, DeadlinePassed, ServiceUnavailable
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer, Progress, Status
from orchestration.ledger.waiting import LONGEST_SILENCE_SECONDS, asked_again_in
from orchestration.sandbox.testing import submit


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    with Ledger(ledger_url, lease_seconds=10.0, clock=clock) as ledger:
        yield ledger


def events(ledger: Ledger, key: str) -> list[str]:
    return [event.event for event in ledger.operations.history(key)]


def abandoned(ledger: Ledger, scan: Scan, books: Books, *, polls: int = 0, token: bool = True) -> None:
    """As a run leaves it that died after it reserved a token; what it submitted is in the books."""
    dead = Owner("elsewhere", gone(), "1", "dead")
    operation = errand(scan, polls=polls)
    ledger.operations.take(operation, dead, service=books.name, redo=True)
    if token:
        ledger.operations.permitted(operation, dead, token=books.reserve(f"{operation.key}-1"))
    ledger.operations.release(operation.key, dead)
    books.asked.clear()


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_lost_answer_of_submit_does_not_do_it_twice(
    ledger: Ledger, scan: Scan, tmp_path: Path, idempotent: bool
) -> None:
    books = Books(tmp_path / "books", idempotent=idempotent, lose_answers=1)
    operation = errand(scan)

    perform(ledger, operation, books, schedule=QUICK)

    assert attempts_of(operation, books) == [1]
    assert books.asked == ["reserve", "submit", "find", "poll"]
    assert events(ledger, operation.key) == [
        "planned",
        "claimed",
        "reserved",
        "permitted",
        "in doubt",
        "adopted",
        "succeeded",
    ]


def test_not_now_is_asked_again_after_the_time_the_service_named(ledger: Ledger, scan: Scan, books: Books) -> None:
    books.refuse = 3
    began = time.monotonic()
    perform(ledger, errand(scan), books, schedule=QUICK)

    assert time.monotonic() - began >= 3 * 0.05
    assert books.asked == ["reserve", *["submit", "find"] * 3, "submit", "poll"]
    assert attempts_of(errand(scan), books) == [1]


def test_silence_about_what_is_known_is_waited_for(ledger: Ledger, scan: Scan, books: Books) -> None:
    abandoned(ledger, scan, books)
    books.silent_finds = books.silent_polls = 2
    perform(ledger, errand(scan), books, schedule=QUICK)
    assert books.asked == ["find"] * 3 + ["submit"] + ["poll"] * 3


def test_a_silence_keeps_what_was_known_of_the_progress(ledger: Ledger, scan: Scan, tmp_path: Path) -> None:
    class Moody(Books):
        def poll(self, request: Errand, handle: str) -> Status:
            if len(self.asked) == 4:
                self.silent_polls = 1
            return super().poll(request, handle)

    heard: list[Progress] = []
    books = Moody(tmp_path / "books")
    perform(ledger, errand(scan, polls=3), books, schedule=QUICK, on_progress=lambda _, how: heard.append(how))
    assert heard[2] == Progress(files_done=1, files_total=3, note="no answer")


def test_at_the_deadline_it_is_cancelled_at_the_service(ledger: Ledger, scan: Scan, books: Books, clock: Clock) -> None:
    operation = errand(scan, polls=10**6, deadline=30.0)
    books.before["poll"] = lambda: clock.advance(20.0)
    with pytest.raises(DeadlinePassed, match="did not end within 30 s"):
        perform(ledger, operation, books, schedule=QUICK)

    assert books.asked == ["reserve", "submit", "poll", "poll", "cancel"]
    kept = ledger.operations.get(operation.key)
    assert kept.state is OperationState.FAILED
    assert isinstance(kept.error, DeadlinePassed)
    assert kept.evidence == {"cancel": "cancelled"}


def test_in_doubt_at_the_deadline_it_stays_open_and_is_adopted_later(
    ledger: Ledger, scan: Scan, books: Books, clock: Clock
) -> None:
    """Closed as failed, the next attempt would have a new token, and do the same work beside the first."""
    books.lose_answers, books.silent_finds = 1, 10**6
    books.before["find"] = lambda: clock.advance(20.0)
    operation = errand(scan, deadline=30.0)
    with pytest.raises(DeadlinePassed, match="it carries on where it stopped"):
        perform(ledger, operation, books, schedule=QUICK)
    assert ledger.operations.get(operation.key).state is OperationState.PLANNED

    books.silent_finds = 0
    perform(ledger, operation, books, schedule=QUICK)
    assert attempts_of(operation, books) == [1]
    assert ledger.operations.get(operation.key).attempt == 1


def test_what_a_crash_kept_from_being_submitted_gets_its_whole_time(
    ledger: Ledger, scan: Scan, books: Books, clock: Clock
) -> None:
    operation = errand(scan, polls=3, deadline=30)
    dead = Owner("elsewhere", 1, "1", "dead")
    ledger.operations.take(operation, dead, service=books.name, redo=True)
    ledger.operations.release(operation.key, dead)
    clock.advance(86400.0)
    assert not perform(ledger, operation, books, schedule=QUICK).already_done
    assert attempts_of(operation, books) == [1]


def test_a_token_that_nobody_gives_is_a_failure(ledger: Ledger, scan: Scan, tmp_path: Path, clock: Clock) -> None:
    class Closed(Books):
        def reserve(self, key: str) -> str:
            clock.advance(20.0)
            raise ServiceUnavailable("closed for maintenance", where=self.name)

    operation = errand(scan, deadline=30.0)
    with pytest.raises(DeadlinePassed, match="closed for maintenance"):
        perform(ledger, operation, Closed(tmp_path / "books"), schedule=QUICK)
    assert ledger.operations.get(operation.key).state is OperationState.FAILED


def never_confirms(books: Books, clock: Clock) -> None:
    """What is late there goes on, whatever is asked; it takes a while each time to learn that."""
    books.confirms_cancel = False
    books.before |= {"poll": lambda: clock.advance(20.0), "cancel": lambda: clock.advance(80.0)}


def test_a_cancellation_that_is_not_confirmed_leaves_it_open(
    ledger: Ledger, scan: Scan, books: Books, clock: Clock
) -> None:
    never_confirms(books, clock)
    operation = errand(scan, polls=10**6, deadline=30.0)
    with pytest.raises(DeadlinePassed, match="may still go on"):
        perform(ledger, operation, books, schedule=QUICK)
    assert ledger.operations.get(operation.key).state is OperationState.RUNNING
    assert events(ledger, operation.key)[-1] == "cancel not confirmed"

    books.confirms_cancel = True
    with pytest.raises(DeadlinePassed):
        perform(ledger, operation, books, schedule=QUICK)
    assert ledger.operations.get(operation.key).state is OperationState.FAILED
    assert attempts_of(operation, books) == [1]


def test_what_its_service_will_never_say_a_person_can_give_up(
    ledger: Ledger, scan: Scan, books: Books, clock: Clock
) -> None:
    never_confirms(books, clock)
    operation = errand(scan, polls=10**6, deadline=30.0)
    with pytest.raises(DeadlinePassed):
        perform(ledger, operation, books, schedule=QUICK)
    ledger.operations.abandon(operation.key, Owner.here(), "the machine was scrapped")
    kept = ledger.operations.get(operation.key)
    assert kept.state is OperationState.FAILED
    assert "the machine was scrapped" in str(kept.error)


def test_killed_after_it_cancelled_what_was_late_the_reason_is_not_forgotten(
    ledger: Ledger, scan: Scan, tmp_path: Path, clock: Clock
) -> None:
    class Killed(Books):
        def cancel(self, handle: str) -> CancelAnswer:
            super().cancel(handle)
            raise SystemExit

    operation = errand(scan, polls=10**6, deadline=30.0)
    killed = Killed(tmp_path / "books", before={"poll": lambda: clock.advance(20.0)})
    with pytest.raises(SystemExit):
        perform(ledger, operation, killed, schedule=QUICK)
    with pytest.raises(DeadlinePassed):
        perform(ledger, operation, Books(tmp_path / "books"), schedule=QUICK)
    assert ledger.operations.get(operation.key).state is OperationState.FAILED


def test_what_others_cancelled_at_the_service_is_cancelled(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, polls=10**6)
    books.before["poll"] = lambda: books.cancel(books.started()[0])
    with pytest.raises(Cancelled, match="cancelled at the service"):
        perform(ledger, operation, books, schedule=QUICK)
    assert ledger.operations.get(operation.key).state is OperationState.CANCELLED


def test_what_finished_before_the_cancellation_has_succeeded(
    ledger: Ledger, scan: Scan, tmp_path: Path, clock: Clock
) -> None:
    class Finished(Books):
        def cancel(self, handle: str) -> CancelAnswer:
            (self.root / handle).write_text("1000000")
            return CancelAnswer.ALREADY_FINISHED

    operation = errand(scan, polls=10**6, deadline=30.0)
    books = Finished(tmp_path / "books", before={"poll": lambda: clock.advance(20.0)})
    outcome = perform(ledger, operation, books, schedule=QUICK)
    assert outcome.record.state is OperationState.SUCCEEDED


def test_cancelled_before_it_was_submitted_nothing_is_asked(ledger: Ledger, scan: Scan, books: Books) -> None:
    abandoned(ledger, scan, books, token=False)
    assert ledger.operations.request_cancel(errand(scan).key)
    with pytest.raises(Cancelled, match="before anything was submitted"):
        perform(ledger, errand(scan), books, schedule=QUICK)
    assert books.asked == []
    assert ledger.operations.get(errand(scan).key).state is OperationState.CANCELLED


def test_cancelled_while_the_service_says_not_now_it_is_never_submitted(
    ledger: Ledger, scan: Scan, books: Books
) -> None:
    books.refuse = 10**6
    books.before["submit"] = lambda: ledger.operations.request_cancel(errand(scan).key)
    with pytest.raises(Cancelled):
        perform(ledger, errand(scan), books, schedule=QUICK)
    assert books.asked == ["reserve", "submit", "find"]


def test_cancelled_during_the_wait_it_is_cancelled_at_the_service(ledger: Ledger, scan: Scan, books: Books) -> None:
    operation = errand(scan, polls=10**6)
    books.before["poll"] = lambda: ledger.operations.request_cancel(operation.key)
    with pytest.raises(Cancelled, match="on request"):
        perform(ledger, operation, books, schedule=QUICK)
    assert books.asked[-1] == "cancel"
    assert ledger.operations.get(operation.key).state is OperationState.CANCELLED
    assert list(books.root.glob("*.cancelled"))


def test_cancelled_in_doubt_on_a_dead_run_it_is_found_and_cancelled(ledger: Ledger, scan: Scan, books: Books) -> None:
    abandoned(ledger, scan, books, polls=10**6)
    operation = errand(scan, polls=10**6)
    submit(books, operation.request, f"token-{operation.key}-1")
    books.asked.clear()
    ledger.operations.request_cancel(operation.key)

    with pytest.raises(Cancelled):
        perform(ledger, operation, books, schedule=QUICK)
    assert books.asked == ["find", "poll", "cancel"]


def test_cancelled_in_doubt_with_nothing_submitted_it_just_ends(ledger: Ledger, scan: Scan, books: Books) -> None:
    abandoned(ledger, scan, books)
    ledger.operations.request_cancel(errand(scan).key)
    with pytest.raises(Cancelled):
        perform(ledger, errand(scan), books, schedule=QUICK)
    assert books.asked == ["find"]


def test_what_has_ended_cannot_be_cancelled(ledger: Ledger, scan: Scan, books: Books) -> None:
    perform(ledger, errand(scan), books, schedule=QUICK)
    assert not ledger.operations.request_cancel(errand(scan).key)
    assert events(ledger, errand(scan).key)[-1] == "succeeded"


def test_a_cancelled_operation_may_be_asked_for_again(ledger: Ledger, scan: Scan, books: Books) -> None:
    abandoned(ledger, scan, books, token=False)
    ledger.operations.request_cancel(errand(scan).key)
    with pytest.raises(Cancelled):
        perform(ledger, errand(scan), books, schedule=QUICK)
    assert perform(ledger, errand(scan), books, schedule=QUICK).record.attempt == 2


def test_a_long_wait_notices_a_cancellation_early(
    ledger: Ledger, scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Patient(Books):
        def poll(self, request: Errand, handle: str) -> Status:
            raise ServiceUnavailable("maintenance until tomorrow", retry_after=86400)

    monkeypatch.setattr("orchestration.ledger.waiting.SLICE_SECONDS", 0.05)
    operation = errand(scan, deadline=1e6)
    waits: list[str] = []

    def somebody_cancels(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.IN_WAIT:
            waits.append(subject)
            ledger.operations.request_cancel(operation.key)

    with listening(somebody_cancels), pytest.raises(Cancelled):
        perform(ledger, operation, Patient(tmp_path / "books"))
    assert len(waits) == 1


def test_a_service_that_asks_for_an_hour_is_asked_again_in_half_a_minute() -> None:
    """Who waits has to look around meanwhile, and most services are back sooner than they say."""
    silence = ServiceUnavailable("503", retry_after=3600.0)
    assert asked_again_in(silence, 0.2) == LONGEST_SILENCE_SECONDS
    assert asked_again_in(ServiceUnavailable("503", retry_after=7.0), 0.2) == 7.0
    assert asked_again_in(ServiceUnavailable("no answer"), 0.2) == 0.2


def test_a_service_that_asks_for_more_time_than_is_left_is_asked_once_more(
    ledger: Ledger, scan: Scan, books: Books
) -> None:
    books.refuse, books.retry_after = 1, 3600.0
    perform(ledger, errand(scan, deadline=0.1), books, schedule=QUICK)
    assert books.asked == ["reserve", "submit", "find", "submit", "poll"]


def test_while_no_token_is_given_a_cancellation_is_heard_and_certain(
    ledger: Ledger, scan: Scan, tmp_path: Path
) -> None:
    class Closed(Books):
        def reserve(self, key: str) -> str:
            super().reserve(key)
            raise ServiceUnavailable("closed for maintenance", where=self.name, retry_after=86400)

    operation = errand(scan, deadline=1e6)
    books = Closed(tmp_path / "books", before={"reserve": lambda: ledger.operations.request_cancel(operation.key)})
    with pytest.raises(Cancelled, match="before anything was submitted"):
        perform(ledger, operation, books, schedule=QUICK)
    assert books.asked == ["reserve"]
    assert ledger.operations.get(operation.key).state is OperationState.CANCELLED


def test_while_a_submission_is_in_doubt_a_cancellation_is_heard_and_not_taken_for_certain(
    ledger: Ledger, scan: Scan, books: Books
) -> None:
    operation = errand(scan, deadline=1e6)
    books.lose_answers, books.silent_finds = 1, 10**6
    books.before["find"] = lambda: ledger.operations.request_cancel(operation.key)
    with pytest.raises(Cancelled, match="did not confirm that it was cancelled, and it may still go on"):
        perform(ledger, operation, books, schedule=QUICK)
    assert books.asked == ["reserve", "submit", "find"]
    assert ledger.operations.get(operation.key).state.open
    assert events(ledger, operation.key)[-1] == "cancel not confirmed"
