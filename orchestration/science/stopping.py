"""A program that is told to stop does so where it looks for it, not wherever it happens to be.

A handler of Python that raises does so between any two instructions of the main thread: in the middle of clearing away
an object, where Python drops it, or just after a lock of `threading` or `concurrent.futures` was taken, and then the
threads that wait for that lock, and the program that waits for them, do so for ever. So ours only keep the order in
mind, and whatever takes long looks for it, at least once a second or so.
"""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(BaseException):
    """Raised where the program looks for an order to stop, and there is one. No failure: nobody goes on without."""


class _Order:
    """To stop: given by a handler, looked for by any thread."""

    def __init__(self) -> None:
        self.given = False
        # Unlike an Event, it can be put to in a handler that interrupts whoever waits for it.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def give(self, *_: object) -> None:
        self.given = True
        self._news.put(None)

    def wait(self, seconds: float) -> None:
        try:
            self._news.get(timeout=seconds)
        except queue.Empty:
            return
        self._news.put(None)  # for others that wait


_order = _Order()


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, Ctrl-C and the end of a terminal are orders to stop; without this, nothing here ever raises.

    For the main thread to enter.
    """
    global _order
    heard = [signal.SIGTERM]
    # A shell has what runs in the background ignore the one, and `nohup` the other.
    heard += [each for each in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, _order.give)) for number in heard]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        _order = _Order()


def look() -> None:
    """From any thread.

    Raises:
        Stopped: if the program was told to stop.
    """
    if _order.given:
        raise Stopped


def pause(seconds: float) -> None:
    """Wait so long.

    Raises:
        Stopped: as soon as the program is told to stop.
    """
    _order.wait(seconds)
    look()
