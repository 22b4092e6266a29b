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
    """SIGTERM and Ctrl-C are orders to stop, for the main thread to enter; without it nothing here ever raises."""
    global _order
    heard = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell has it for what runs in the background
        heard.append(signal.SIGINT)
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
        KeyboardInterrupt: if the program was told to stop.
    """
    if _order.given:
        raise KeyboardInterrupt


def pause(seconds: float) -> None:
    """Wait so long.

    Raises:
        KeyboardInterrupt: as soon as the program is told to stop.
    """
    order = _order
    order.wait(seconds)
    look()
