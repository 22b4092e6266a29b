"""`perform` gives an operation back that goes on, to callers that can wait for it elsewhere."""

from __future__ import annotations

import pytest
from waiting_world import QUICK, BulkSite, Site, job, leave

from orchestration.errors import Cancelled, JobFailed
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.cancel import cancel
from orchestration.ledger.operation import OperationState
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer, Status
from orchestration.ledger.waiting import Awaited, Waiting


def test_what_is_left_goes_on_and_nobody_holds_it(ledger: Ledger, scan: Scan) -> None:
    site, operation = BulkSite(), job(scan, "1")
    awaited = leave(ledger, operation, site)

    record = ledger.operations.get(operation.key)
    assert (record.state, record.owner, record.handle) == (OperationState.RUNNING, None, next(iter(site.submitted)))
    assert awaited == {operation.key: Awaited(until=record.began_at + operation.deadline)}
    assert "left waiting" in [event.event for event in ledger.operations.history(operation.key)]


def test_taken_up_again_it_ends_as_if_it_had_never_been_left(ledger: Ledger, scan: Scan) -> None:
    site, operation = BulkSite(), job(scan, "1")
    leave(ledger, operation, site)
    site.end(next(iter(site.submitted)))

    outcome = perform(ledger, operation, site, schedule=QUICK, redo=False)

    assert outcome.evidence == {"exit code": 0}
    assert not outcome.already_done
    assert len(site.submitted) == 1


def test_it_is_not_left_before_its_first_poll_and_not_once_it_has_ended(ledger: Ledger, scan: Scan) -> None:
    site, operation = BulkSite(), job(scan, "1")
    asked: list[tuple[float, float]] = []

    def may_leave(since: float, waited: float) -> bool:
        asked.append((since, waited))
        site.end(next(iter(site.submitted)))
        return len(asked) > 1

    assert perform(ledger, operation, site, schedule=QUICK, may_leave=may_leave).evidence == {"exit code": 0}
    assert len(asked) == 1
    assert all(0 <= waited <= since + 0.1 < 5 for since, waited in asked)


@pytest.mark.parametrize(
    ("site", "may_move"),
    [(Site(), False), (BulkSite(needs_care=True), False), (BulkSite(), True)],
    ids=["asked one by one", "in need of care", "silent, and it would go elsewhere"],
)
def test_what_cannot_be_waited_for_from_elsewhere_is_not_left(
    ledger: Ledger, scan: Scan, site: Site, may_move: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = job(scan, "1")
    polls: list[bool] = []

    def ends_after_three(request: JobSpec, handle: str) -> Status:
        polls.append(site.silent)
        site.silent = may_move and len(polls) < 3
        if len(polls) == 4:
            site.end(handle)
        return type(site).poll(site, request, handle)

    monkeypatch.setattr(site, "poll", ends_after_three)
    perform(
        ledger,
        operation,
        site,
        schedule=QUICK,
        may_leave=lambda since, waited: site.silent or not may_move,
        moves_after=60.0 if may_move else None,
    )
    assert len(polls) == 4


@pytest.mark.parametrize("may_move", [False, True], ids=["at once", "when it could not be taken elsewhere"])
def test_while_its_service_is_silent_it_is_left_too(
    ledger: Ledger, scan: Scan, may_move: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher learns of the end of the silence as well, and a thousand runs need not be a process each until then."""
    monkeypatch.setattr("orchestration.ledger.attempt.MOVE_SECONDS", -60.0)
    site, operation = BulkSite(), job(scan, "1")
    leave(ledger, operation, site, may_move=may_move)
    site.silent = True
    awaited = leave(ledger, operation, site, may_move=may_move)
    assert awaited[operation.key].may_move == may_move
    assert len(site.submitted) == 1


def test_a_signal_to_leave_is_no_error_that_a_flow_could_catch() -> None:
    assert not issubclass(Waiting, Exception)


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_how_it_ended_meanwhile_is_the_answer_to_the_run_that_waited(ledger: Ledger, scan: Scan, end: str) -> None:
    site, operation = BulkSite(), job(scan, "1")
    leave(ledger, operation, site)
    if end == "cancelled":
        assert cancel(ledger, operation.key, site, operation.request).answer is CancelAnswer.CANCELLED
    else:
        site.end(next(iter(site.submitted)), fails="no memory")
        with pytest.raises(JobFailed, match="no memory"):
            perform(ledger, operation, site, schedule=QUICK)

    with pytest.raises(Cancelled if end == "cancelled" else JobFailed):
        perform(ledger, operation, site, schedule=QUICK, redo=False)
    assert len(site.submitted) == 1


def test_cancelling_what_has_finished_says_so_and_keeps_its_result(ledger: Ledger, scan: Scan) -> None:
    site, operation = BulkSite(), job(scan, "1")
    leave(ledger, operation, site)
    site.end(next(iter(site.submitted)))

    assert cancel(ledger, operation.key, site, operation.request).answer is CancelAnswer.ALREADY_FINISHED

    assert ledger.operations.get(operation.key).state is OperationState.SUCCEEDED


def test_cancelling_what_the_service_does_not_confirm_leaves_it_open(
    ledger: Ledger, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.ledger.cancel.CONFIRM_SECONDS", 0.3)
    site, operation = BulkSite(confirms=False), job(scan, "1")
    leave(ledger, operation, site)

    assert cancel(ledger, operation.key, site, operation.request).answer is CancelAnswer.UNKNOWN

    record = ledger.operations.get(operation.key)
    assert record.state.open
    assert record.owner is None
    assert len(site.cancels) > 1


def test_cancelling_finds_a_submission_of_which_the_answer_was_lost(ledger: Ledger, scan: Scan) -> None:
    site, operation = BulkSite(), job(scan, "1")
    leave(ledger, operation, site)
    handle = next(iter(site.submitted))
    with ledger.operations._database.write("operations") as connection:
        connection.exec_driver_sql("update operations set handle = null, state = 'planned'")

    assert cancel(ledger, operation.key, site, operation.request).answer is CancelAnswer.CANCELLED

    assert site.cancels == [handle]
    assert ledger.operations.get(operation.key).state is OperationState.CANCELLED
