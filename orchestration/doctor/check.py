"""What was looked at, and what was found."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

from orchestration.errors import ConfigError, OrchestrationError
from orchestration.ledger.service import Document, Json


class Health(enum.StrEnum):
    """From good to bad; a tree is as bad as its worst branch."""

    WORKS = "works"
    UNUSED = "not set up"
    """Nothing is known to be wrong, and nobody can use it: its credentials are not there, for instance."""
    DOUBTFUL = "doubtful"
    BROKEN = "broken"


_ORDER = list(Health)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at, with its parts; `remedy` says what to do if it does not work."""

    what: str
    health: Health = Health.WORKS
    note: str = ""
    remedy: str = ""
    parts: tuple[Check, ...] = ()

    @property
    def worst(self) -> Health:
        return max((self.health, *(part.worst for part in self.parts)), key=_ORDER.index)

    def document(self) -> Document:
        parts: list[Json] = [part.document() for part in self.parts]
        return {
            "what": self.what,
            "health": self.health.value,
            "worst": self.worst.value,
            "note": self.note,
            "remedy": self.remedy,
            "parts": parts,
        }


Look: TypeAlias = Callable[[], Check]


def attempt(what: str, ask: Callable[[], str], *, unused: bool = False) -> Check:
    """Works if `ask` returns, with what it returns as the note.

    `unused` has a missing setting count as a thing that nobody uses here, not as one that is broken.
    """
    try:
        return Check(what=what, note=ask())
    except ConfigError as error:
        return refused(what, error, Health.UNUSED if unused else Health.BROKEN)
    except OrchestrationError as error:
        return refused(what, error)


def refused(what: str, error: OrchestrationError, health: Health = Health.BROKEN) -> Check:
    place = f" ({error.where})" if error.where else ""
    return Check(what=what, health=health, note=f"{error.what}{place}", remedy=error.next_step)


def together(looks: Sequence[tuple[str, Look]], *, seconds: float) -> tuple[Check, ...]:
    """All at once; what has not answered after `seconds` is broken, and is not waited for any longer."""
    pool = ThreadPoolExecutor(max_workers=max(1, len(looks)), thread_name_prefix="doctor")
    until = time.monotonic() + seconds
    try:
        futures = [(what, pool.submit(look)) for what, look in looks]
        return tuple(_result(what, future, until, seconds) for what, future in futures)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(what: str, future: Future[Check], until: float, seconds: float) -> Check:
    try:
        return future.result(timeout=max(0.0, until - time.monotonic()))
    except TimeoutError:
        return Check(
            what=what,
            health=Health.BROKEN,
            note=f"no answer within {seconds:.0f} s",
            remedy="check the network, and the status page of the service",
        )
    except OrchestrationError as error:
        return refused(what, error)
    except Exception as error:  # whatever is wrong with one part, the others are what a person asked for
        return Check(
            what=what,
            health=Health.BROKEN,
            note=f"an error nobody planned for: {type(error).__name__}: {error}",
            remedy="report this defect with `beamline doctor --json`",
        )


def named(check: Check, what: str) -> Check:
    return replace(check, what=what)
