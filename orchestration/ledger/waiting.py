"""Waiting in slices: for a service, and for another run; and giving up one's place while one waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestration.errors import ServiceUnavailable
from orchestration.ledger.boundary import Boundary, reached
from orchestration.ledger.service import Document


@dataclass(frozen=True, kw_only=True)
class Awaited:
    """What a run that waits without a process wants to know about one operation."""

    until: float
    """Seconds since the epoch at which the deadline of the operation passes."""
    may_move: bool = False
    """The run would take it elsewhere if its site were in trouble: it has to be let go on then."""
    over: bool = False
    """It ended before the run left; how, is still the answer to the run when it goes on."""

    def document(self) -> Document:
        return {"until": self.until, "may_move": self.may_move, "over": self.over}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Awaited:
        return cls(until=document["until"], may_move=document["may_move"], over=document["over"])


class Waiting(BaseException):
    """Not an error: operations go on at their services, nobody holds them, and who was waiting may do so elsewhere.

    Raised by `perform` only to callers that allow it. Called again with the same operation, it goes on from there.
    """

    def __init__(self, awaited: Mapping[str, Awaited]) -> None:
        self.awaited: Mapping[str, Awaited] = dict(awaited)
        """By the key of the operation."""
        super().__init__(", ".join(self.awaited))


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


LONGEST_SILENCE_SECONDS = 30.0
"""A service that gives no answer is asked again after so long, whatever it asked for.

One question in half a minute burdens nobody, and a service that said "in an hour" is often back in a minute. Who waits
has to look around meanwhile: at the site, which may have gone down, and at the time that is left.
"""


def backoff() -> Iterator[float]:
    """Seconds to wait after each silence of a service: doubling from a fifth of a second to the longest."""
    delay = 0.2
    while True:
        yield delay
        delay = min(LONGEST_SILENCE_SECONDS, 2 * delay)


def asked_again_in(silence: ServiceUnavailable, delay: float) -> float:
    """Seconds until a service is asked again: as many as it asked for, or else `delay`; no more than the longest."""
    return min(LONGEST_SILENCE_SECONDS, silence.retry_after or delay)
