"""Branches of one run leave together, or not at all; and what one fails in does not make orphans of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import pytest

from orchestration.errors import JobFailed
from orchestration.flows.side_by_side import Suspend, current_branch, side_by_side
from orchestration.ledger.waiting import Awaited, Waiting

PATIENCE = 60.0
AWAITED = Awaited(until=1.0)


class Suspended(BaseException):
    """What ends the process."""


def suspend(awaited: Mapping[str, Awaited]) -> None:
    raise Suspended(*sorted(awaited))


def together(*calls: Callable[[], str], suspend: Suspend = suspend) -> list[str]:
    return side_by_side(calls, suspend=suspend)


class Waiter:
    """A call that waits for something, leaves if all others would, and finds its way back when it is called again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = threading.Event()
        self.willing = threading.Event()
        self.tries = 0

    def __call__(self) -> str:
        branch = current_branch()
        assert branch is not None
        self.tries += 1
        branch.working()
        while not self.ended.wait(0.01):
            if branch.willing():
                raise Waiting({self.name: AWAITED})
            self.willing.set()
        return self.name


def working_until(*events: threading.Event) -> Callable[[], str]:
    def call() -> str:
        for event in events:
            assert event.wait(PATIENCE)
        return "worked"

    return call


def test_a_run_is_suspended_once_all_its_branches_have_ended_or_wait() -> None:
    a, b = Waiter("a"), Waiter("b")
    with pytest.raises(Suspended) as signal:
        together(a, working_until(a.willing, b.willing), b)
    assert signal.value.args == ("a", "b")


def test_results_come_in_order_and_nothing_is_suspended_without_need() -> None:
    a = Waiter("a")

    def works() -> str:
        assert a.willing.wait(PATIENCE)
        a.ended.set()
        return "worked"

    # It has ended before the other could leave, or is found to have when it is called again.
    assert together(a, works, suspend=lambda awaited: None) == ["a", "worked"]


def test_where_a_run_cannot_be_suspended_the_branches_that_left_are_called_again() -> None:
    a, asked = Waiter("a"), list[Mapping[str, Awaited]]()

    def not_now(awaited: Mapping[str, Awaited]) -> None:
        asked.append(awaited)
        a.ended.set()

    assert together(a, working_until(a.willing), suspend=not_now) == ["a", "worked"]
    assert [set(awaited) for awaited in asked] == [{"a"}]
    assert a.tries == 2


def test_a_branch_that_has_left_comes_back_while_another_goes_on_working() -> None:
    """Both would leave; then one of them has something to do after all, and the other must not go unwatched."""
    left, back = threading.Event(), threading.Event()
    tries: list[str] = []

    def undecided() -> str:
        branch = current_branch()
        assert branch is not None
        branch.willing()
        assert left.wait(PATIENCE)
        branch.working()
        assert back.wait(PATIENCE)
        return "done"

    def leaver() -> str:
        branch = current_branch()
        assert branch is not None
        tries.append("a")
        if len(tries) > 1:
            back.set()
            return "a"
        while not branch.willing():
            pass
        left.set()
        raise Waiting({"a": AWAITED})

    assert together(leaver, undecided) == ["a", "done"]
    assert len(tries) == 2


def test_a_failure_is_raised_when_the_others_have_ended_and_not_before() -> None:
    failed = threading.Event()
    ended: list[str] = []

    def failing() -> str:
        failed.set()
        raise JobFailed("cold")

    def other() -> str:
        assert failed.wait(PATIENCE)
        ended.append("other")
        raise JobFailed("colder")

    with pytest.raises(JobFailed, match="cold"):
        together(failing, other, working_until(failed))
    assert ended == ["other"]


def test_a_failure_waits_while_the_run_is_suspended_for_the_others() -> None:
    a, asked, tries = Waiter("a"), list[set[str]](), list[str]()

    def failing() -> str:
        tries.append("failing")
        raise JobFailed("cold")

    def not_now(awaited: Mapping[str, Awaited]) -> None:
        asked.append(set(awaited))
        a.ended.set()

    with pytest.raises(JobFailed):
        together(failing, a, suspend=not_now)
    assert asked == [{"a"}]
    assert tries == ["failing"]


def test_branches_within_a_branch_leave_to_the_outer_ones() -> None:
    def inner() -> str:
        return "".join(together(Waiter("b")))

    with pytest.raises(Suspended) as signal:
        together(inner, Waiter("a"))
    assert signal.value.args == ("a", "b")
