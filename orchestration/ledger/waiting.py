"""Waiting in slices: for a service, and for another run; and giving up one's place while one waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping

from orchestration.ledger.boundary import Boundary, reached


class Waiting(BaseException):
    """Not an error: operations go on at their services, nobody holds them, and who was waiting may do so elsewhere.

    Raised by `perform` only to callers that allow it. Called again with the same operation, it goes on from there.
    """

    def __init__(self, until: Mapping[str, float]) -> None:
        self.until: Mapping[str, float] = dict(until)
        """The operations, each with the time (seconds since the epoch) at which its deadline passes."""
        super().__init__(", ".join(self.until))


SLICE_SECONDS = 2.0
"""A wait looks around this often, however long it is: somebody may have cancelled, or taken over."""


def pause(seconds: float, subject: str) -> None:
    """Let `seconds` pass."""
    reached(Boundary.IN_WAIT, subject)
    threading.Event().wait(seconds)


def pause_unless(enough: Callable[[], bool], seconds: float, subject: str) -> None:
    """Let `seconds` pass, or fewer if `enough` becomes true; it is asked between slices, and may raise."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > SLICE_SECONDS:
        pause(min(left, SLICE_SECONDS), subject)
        if enough():
            return
    pause(max(0.0, left), subject)


def backoff() -> Iterator[float]:
    """Seconds to wait after each silence of a service: doubling from a fifth of a second to half a minute."""
    delay = 0.2
    while True:
        yield delay
        delay = min(30.0, 2 * delay)
