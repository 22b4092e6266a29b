"""Waiting in slices: for a service, and for another run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from orchestration.ledger.boundary import Boundary, reached

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
