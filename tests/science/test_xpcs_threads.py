"""Work in threads: what goes wrong in one is told at once by the one that waits for it, and nothing hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from orchestration.science.xpcs.behind import ahead, behind
from orchestration.science.xpcs.threads import in_threads, processors


def test_a_piece_that_fails_is_told_and_no_other_is_begun() -> None:
    begun: list[int] = []
    until = threading.Event()

    def work(low: int, _high: int) -> None:
        begun.append(low)
        if low == 0:
            raise ValueError("first")
        until.wait(0.02)

    with pytest.raises(ValueError, match="first"):
        in_threads(100 * processors(), work, shares=100)
    assert len(begun) < 50 * processors()


def test_what_is_read_ahead_comes_in_order_and_its_error_after_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise ValueError("cut short")

    found: list[int] = []
    with pytest.raises(ValueError, match="cut short"):
        found.extend(ahead(items()))
    assert list(ahead(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(ahead(iter(()))) == []


def test_who_leaves_early_waits_for_no_more_than_the_next_item() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    for number in ahead(items()):
        if number == 2:
            break
    assert len(made) <= 5


def test_what_fails_behind_is_told_by_the_next_thing_or_at_the_end() -> None:
    def fail() -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"), behind() as one:
        one(fail)
    after: list[str] = []

    def both() -> None:
        with behind() as one:
            one(fail)
            one(lambda: after.append("written"))

    with pytest.raises(OSError, match="no space"):
        both()
    assert after == []
