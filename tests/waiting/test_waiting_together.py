"""Branches of one run leave together, or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import pytest

from orchestration.errors import JobFailed
from orchestration.flows.side_by_side import current_branch, side_by_side
from orchestration.ledger.waiting import Waiting


class Suspended(BaseException):
    """What ends the process."""


def suspend(until: Mapping[str, float]) -> None:
    raise Suspended(*sorted(until))


def waiting_for(name: str, ended: threading.Event, tries: list[str]) -> Callable[[], str]:
    """A call that waits for something, leaves if all others would, and finds its way back when it is called again."""

    def call() -> str:
        branch = current_branch()
        assert branch is not None
        tries.append(name)
        branch.working()
        while not ended.is_set():
            if branch.willing():
                raise Waiting({name: 1.0})
            time.sleep(0.01)
        return name

    return call


def working_for(seconds: float, name: str = "worked") -> Callable[[], str]:
    def call() -> str:
        time.sleep(seconds)
        return name

    return call


def test_a_run_is_suspended_once_all_its_branches_have_ended_or_wait() -> None:
    tries: list[str] = []
    calls = [waiting_for("a", threading.Event(), tries), working_for(0.2), waiting_for("b", threading.Event(), tries)]
    began = time.monotonic()
    with pytest.raises(Suspended) as signal:
        side_by_side(calls, suspend=suspend)
    assert signal.value.args == ("a", "b")
    assert time.monotonic() - began >= 0.2


def test_results_come_in_order_and_nothing_is_suspended_without_need() -> None:
    ended = threading.Event()
    threading.Timer(0.1, ended.set).start()
    calls = [waiting_for("a", ended, []), working_for(0.3)]
    assert side_by_side(calls, suspend=suspend) == ["a", "worked"]


def test_where_a_run_cannot_be_suspended_the_branches_that_left_are_called_again() -> None:
    ended, tries, asked = threading.Event(), list[str](), list[Mapping[str, float]]()

    def not_now(until: Mapping[str, float]) -> None:
        asked.append(until)
        ended.set()

    calls = [waiting_for("a", ended, tries), working_for(0.05)]
    assert side_by_side(calls, suspend=not_now) == ["a", "worked"]
    assert [set(until) for until in asked] == [{"a"}]
    assert tries == ["a", "a"]


def test_a_branch_that_has_left_comes_back_while_another_goes_on_working() -> None:
    """Both would leave; then one of them has something to do after all, and the other must not go unwatched."""
    left, tries = threading.Event(), list[str]()
    ended = threading.Event()

    def undecided() -> str:
        branch = current_branch()
        assert branch is not None
        branch.willing()
        left.wait(5.0)
        branch.working()
        time.sleep(0.2)
        ended.set()
        return "done"

    def leaver() -> str:
        tries.append("a")
        branch = current_branch()
        assert branch is not None
        while not branch.willing():
            time.sleep(0.01)
            if ended.is_set():
                return "a"
        left.set()
        raise Waiting({"a": 1.0})

    assert side_by_side([leaver, undecided], suspend=suspend) == ["a", "done"]
    assert len(tries) == 2


def test_the_first_failure_is_raised_whatever_the_others_wait_for() -> None:
    def failing() -> str:
        raise JobFailed("cold")

    with pytest.raises(JobFailed):
        side_by_side([failing, waiting_for("a", threading.Event(), [])], suspend=suspend)


def test_branches_within_a_branch_leave_to_the_outer_ones() -> None:
    def inner() -> str:
        return "".join(side_by_side([waiting_for("b", threading.Event(), [])], suspend=suspend))

    with pytest.raises(Suspended) as signal:
        side_by_side([inner, waiting_for("a", threading.Event(), [])], suspend=suspend)
    assert signal.value.args == ("a", "b")
