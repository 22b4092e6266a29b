"""Runs of the same work: what each does when another was thought dead, or goes elsewhere; it is done once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from siting_bench import QUICK, Plain, Yard, goes_down
from siting_world import wait_for

from orchestration.conditions import SiteState
from orchestration.errors import JobNotStarted, TransferWithdrawn
from orchestration.flows.guarding import Guard
from orchestration.flows.looking import Watch
from orchestration.flows.moving import guarded
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.decisions import GIVEN, Candidate, DecisionRecord, JobAt, Verdict
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner

PATIENCE = 60.0


class Clock:
    """The time, and how much later it is made to be."""

    later = 0.0

    def __call__(self) -> float:
        return time.time() + self.later


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def yard(tmp_path: Path, clock: Clock) -> Iterator[Yard]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", clock=clock) as ledger:
        yield Yard.of(ledger)


def decide(yard: Yard, site: str, *, instead_of: DecisionRecord | None, unless: JobAt | None = None) -> DecisionRecord:
    return yard.ledger.decisions.decide(
        scan_id=yard.scan.id,
        run_id="another",
        subject="subject",
        step="reconstruct",
        site=site,
        candidates=[Candidate(site=site, verdict=Verdict.CHOSEN)],
        instead_of=instead_of,
        unless=unless,
    )


def test_a_run_that_was_thought_dead_submits_nothing_once_another_has_decided(yard: Yard, clock: Clock) -> None:
    """Its process slept over its lease while it copied the data; the site was down just then, and is up again."""
    copied, wake = threading.Event(), threading.Event()

    def sleep(site: str) -> None:
        if site == "a":
            copied.set()
            assert wake.wait(PATIENCE)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(yard.run, "first", copied=sleep)
        assert copied.wait(PATIENCE)
        clock.later = 3600.0
        yard.at["a"].state = SiteState.DOWN
        assert yard.run("second") == "b"
        yard.at["a"].state = SiteState.UP
        wake.set()
        assert first.result(PATIENCE) == "b"
    assert (yard.at["a"].submitted, len(yard.at["b"].submitted)) == ([], 1)
    assert yard.decided == ["a", "b"]


@pytest.fixture
def under_a_guard(yard: Yard) -> Yard:
    """Work that a decision gave to ``a``, performed there."""
    decide(yard, "a", instead_of=None)
    return yard


def guard_of(yard: Yard) -> tuple[Plain, Guard]:
    work = yard.work("run")
    watch = Watch(site="a", policy=QUICK, ask=yard.at["a"].condition)
    return work, Guard(work=work, site=yard.settings.site("a"), watch=watch, subject="subject")


def test_a_decision_that_is_replaced_between_token_and_submission_keeps_the_job_from_being_submitted(
    under_a_guard: Yard,
) -> None:
    yard = under_a_guard
    yard.at["a"].on_reserve = lambda _: decide(yard, "b", instead_of=yard.ledger.decisions.newest("subject"))
    work, guard = guard_of(yard)
    with guarded(work, guard), pytest.raises(JobNotStarted, match="given it to b instead of a"):
        yard.compute(work, "a")
    assert yard.at["a"].submitted == []
    assert yard.ledger.operations.get(yard.job("a").key).state is OperationState.FAILED


def test_no_data_is_copied_to_a_site_that_the_work_is_not_given_to_any_more(under_a_guard: Yard) -> None:
    yard = under_a_guard
    work, guard = guard_of(yard)
    decide(yard, "b", instead_of=yard.ledger.decisions.newest("subject"))
    with guarded(work, guard), pytest.raises(TransferWithdrawn, match="given it to b"):
        yard.copy(work, "a")
    assert yard.mover.submitted == []


@pytest.mark.parametrize("subject", ["subject", "of a pinned run"])
def test_a_decision_is_not_replaced_while_its_job_is_in_hand(under_a_guard: Yard, subject: str) -> None:
    """Between the look of a run at the decision and its submission; the job of another run is another matter."""
    yard, owner = under_a_guard, Owner.here()
    first = yard.ledger.decisions.newest("subject")
    rows, operation = yard.ledger.operations, yard.job("a")
    job = JobAt(step=operation.step, service="nersc.jobs@a")
    assert rows.take(operation, owner, service=job.service, redo=True)
    rows.permitted(operation, owner, token="token", site=operation.destination)
    rows.noted(operation.key, owner, GIVEN, {"subject": subject})
    mine = subject == "subject"
    found = decide(yard, "b", instead_of=first, unless=job)
    assert found.site == ("a" if mine else "b")
    rows.failed(operation.key, owner, JobNotStarted("it was taken back"), {})
    assert decide(yard, "b", instead_of=found, unless=job).site == "b"


@pytest.mark.parametrize("stage", ["the copy", "the job"])
def test_what_another_run_takes_back_is_done_again_by_one_that_may_not_go_elsewhere(yard: Yard, stage: str) -> None:
    shared = yard.mover if stage == "the copy" else yard.at["a"]
    shared.polls = 1_000_000
    waits, begun = threading.Event(), threading.Event()
    shared.on_poll = lambda _: begun.set()

    def listener(boundary: Boundary, subject: str) -> None:
        if boundary is Boundary.IN_WAIT and threading.current_thread().name.startswith("pinned"):
            waits.set()

    def pinned() -> str:
        work = yard.work("pinned")
        yard.copy(work, "a")
        yard.compute(work, "a")
        return "a"

    with (
        listening(listener),
        ThreadPoolExecutor(thread_name_prefix="any") as one,
        ThreadPoolExecutor(thread_name_prefix="pinned") as two,
    ):
        moves = one.submit(yard.run, "any")
        assert begun.wait(PATIENCE)
        stays = two.submit(pinned)
        assert waits.wait(PATIENCE)
        goes_down(yard.at["a"])
        wait_for(lambda: shared.cancelled)
        shared.polls = 0
        assert moves.result(PATIENCE) == "b"
        assert stays.result(PATIENCE) == "a"
    history = [event.event for event in yard.ledger.operations.history(yard.job("a").key)]
    assert history[-1] == "succeeded"
