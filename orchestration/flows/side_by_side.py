"""Waiting for several things at once, in a way that a signal can interrupt."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Call each in a thread of its own and return all results, in order; the first exception is raised.

    The threads do not keep the process alive: when a signal ends the wait, what they were waiting for stays as the
    ledger has it.
    """
    done: queue.SimpleQueue[tuple[int, T | BaseException]] = queue.SimpleQueue()

    def run(number: int, call: Callable[[], T]) -> None:
        try:
            done.put((number, call()))
        except BaseException as error:  # handed over to the thread that waits
            done.put((number, error))

    for number, call in enumerate(calls):
        threading.Thread(target=copy_context().run, args=(run, number, call), daemon=True).start()
    results: dict[int, T] = {}
    for _ in calls:
        number, result = done.get()
        if isinstance(result, BaseException):
            raise result
        results[number] = result
    return [results[number] for number in range(len(calls))]
