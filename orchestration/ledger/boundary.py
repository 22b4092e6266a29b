"""The places where a crash would be interesting.

The ledger announces each of them. Nobody listens in production; the chaos tests do, and kill the process there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Boundary(enum.StrEnum):
    BEFORE_WRITE = "before-write"
    AFTER_WRITE = "after-write"
    BEFORE_RESERVE = "before-reserve"
    BEFORE_FIND = "before-find"
    BEFORE_SUBMIT = "before-submit"
    AFTER_SUBMIT = "after-submit"
    IN_WAIT = "in-wait"
    BEFORE_CANCEL = "before-cancel"


Listener = Callable[[Boundary, str], None]

_listeners: list[Listener] = []


def reached(boundary: Boundary, subject: str) -> None:
    """Tell the listeners; `subject` is the step, or the table about to be written."""
    for listener in _listeners:
        listener(boundary, subject)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` at each boundary of this process while the context is open."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
