"""Waiting for several things at once, in a way that a signal can interrupt and that needs no process for long."""

from __future__ import annotations

import enum
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import TypeVar

from orchestration.ledger.waiting import Awaited, Waiting

T = TypeVar("T")

Suspend = Callable[[Mapping[str, Awaited]], None]
"""Ends this process if the run can wait for these operations without it; returns if it cannot."""


class _Stand(enum.Enum):
    WORKING = enum.auto()
    WILLING = enum.auto()
    """It waits for something that can be waited for from elsewhere."""
    LEFT = enum.auto()
    """It has given that back, and waits for the others."""
    ENDED = enum.auto()


class Branch:
    """One of several calls that run side by side, and what the others are at."""

    def __init__(self, crossing: _Crossing, number: int) -> None:
        self._crossing = crossing
        self._number = number

    def working(self) -> None:
        """It does something that needs this process."""
        self._crossing.enter(self._number, _Stand.WORKING)

    def willing(self) -> bool:
        """It need not stay; True if none of the others need, either."""
        return self._crossing.enter(self._number, _Stand.WILLING)

    def leave(self) -> bool:
        """It has left. Returns when it is known whether all others have left or ended, too (True), or work on."""
        return self._crossing.leave(self._number)

    def end(self) -> None:
        self._crossing.enter(self._number, _Stand.ENDED)


class _Crossing:
    """Where the branches of one run agree to leave together."""

    def __init__(self, branches: int) -> None:
        self._stands = dict.fromkeys(range(branches), _Stand.WORKING)
        self._changed = threading.Condition()

    def enter(self, number: int, stand: _Stand) -> bool:
        """Tell the others; True if none of all is working."""
        with self._changed:
            self._stands[number] = stand
            self._changed.notify_all()
            return _Stand.WORKING not in self._stands.values()

    def leave(self, number: int) -> bool:
        gone = {_Stand.LEFT, _Stand.ENDED}
        self.enter(number, _Stand.LEFT)
        with self._changed:
            self._changed.wait_for(
                lambda: _Stand.WORKING in self._stands.values() or gone.issuperset(self._stands.values())
            )
            if gone.issuperset(self._stands.values()):
                return True
            self._stands[number] = _Stand.WORKING
            return False


_branch: ContextVar[Branch | None] = ContextVar("branch", default=None)


def current_branch() -> Branch | None:
    """The branch in which the caller runs; None on the trunk of a flow."""
    return _branch.get()


def side_by_side(calls: Sequence[Callable[[], T]], *, suspend: Suspend) -> list[T]:
    """Call each in a thread of its own and return all results, in order.

    Once each has ended or waits for something that can be waited for from elsewhere, `suspend` is called; a call that
    was given up for that is made again, and has to find out by itself where it was (by the ledger). The first
    exception is raised when all have ended: what the others have going on elsewhere would be nobody's otherwise.

    The threads do not keep the process alive: when a signal ends the wait, what they were waiting for stays as the
    ledger has it.
    """
    ended: dict[int, T | _Error] = {}
    while waiting := _round({number: call for number, call in enumerate(calls) if number not in ended}, ended):
        if current_branch() is not None:
            raise Waiting(waiting)
        suspend(waiting)
    for each in ended.values():  # in the order in which they ended
        if isinstance(each, _Error):
            raise each.error
    return [result for number in range(len(calls)) if not isinstance(result := ended[number], _Error)]


@dataclass(frozen=True)
class _Error:
    """What a call raised, handed over to the thread that waits."""

    error: BaseException


def _round(calls: Mapping[int, Callable[[], T]], ended: dict[int, T | _Error]) -> Mapping[str, Awaited]:
    """Call them until each has ended or has left; the operations for which those that left wait."""
    done: queue.SimpleQueue[tuple[int, T | _Error]] = queue.SimpleQueue()
    crossing = _Crossing(len(calls))

    def run(number: int, branch: Branch, call: Callable[[], T]) -> None:
        _branch.set(branch)
        try:
            done.put((number, _stay(branch, call)))
        except BaseException as error:
            done.put((number, _Error(error)))
        finally:
            branch.end()

    for place, (number, call) in enumerate(calls.items()):
        arguments = (run, number, Branch(crossing, place), call)
        threading.Thread(target=copy_context().run, args=arguments, daemon=True).start()
    waiting: dict[str, Awaited] = {}
    for _ in calls:
        number, result = done.get()
        if isinstance(result, _Error) and isinstance(result.error, Waiting):
            waiting.update(result.error.awaited)
        else:
            ended[number] = result
    return waiting


def _stay(branch: Branch, call: Callable[[], T]) -> T:
    """Leave only together with all others: what one of them waits for must not go unwatched while another works."""
    while True:
        try:
            return call()
        except Waiting:
            if branch.leave():
                raise
