"""What was looked at, and what was found."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from orchestration.errors import NotSetUp, OrchestrationError
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

    @property
    def culprit(self) -> Check:
        """The part, at any depth, that makes it as bad as it is; itself, if it is no better."""
        if self.health is self.worst:
            return self
        return next(part for part in self.parts if part.worst is self.worst).culprit

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


class Shared:
    """A look whose finding several parts of the tree tell: it is taken once, by whoever asks first."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._found: Check | None = None

    def __call__(self) -> Check:
        with self._lock:
            if self._found is None:
                self._found = self._look()
            return self._found


def attempt(what: str, ask: Callable[[], str]) -> Check:
    """Works if `ask` returns, with what it returns as the note."""
    try:
        return Check(what=what, note=ask())
    except OrchestrationError as error:
        return refused(what, error)


def refused(what: str, error: OrchestrationError, health: Health = Health.BROKEN) -> Check:
    """What is simply not set up is not used here: that is no trouble. A credential that is refused is."""
    place = f" ({error.where})" if error.where else ""
    health = Health.UNUSED if isinstance(error, NotSetUp) else health
    return Check(what=what, health=health, note=f"{error.what}{place}", remedy=error.next_step)


_SILENT = "check the network, and the status page of the service"


def together(looks: Sequence[tuple[str, Look]], *, seconds: float, remedy: str = _SILENT) -> tuple[Check, ...]:
    """All at once; what has not answered after `seconds` is broken, and is not waited for any longer.

    `remedy` is for what does not answer. Nor does this process wait for it when it ends: it may hang for good, as a
    look at a disk does whose file server is down.
    """
    threads = [_Looking(what, look) for what, look in looks]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    silence = f"no answer within {seconds:.0f} s"
    return tuple(
        thread.found or Check(what=thread.what, health=Health.BROKEN, note=silence, remedy=remedy) for thread in threads
    )


class _Looking(threading.Thread):
    def __init__(self, what: str, look: Look) -> None:
        super().__init__(name=f"doctor: {what}", daemon=True)
        self.what = what
        self._look = look
        self.found: Check | None = None

    def run(self) -> None:
        self.found = _seen(self.what, self._look)


def _seen(what: str, look: Look) -> Check:
    try:
        return look()
    except OrchestrationError as error:
        return refused(what, error)
    except Exception as error:  # whatever is wrong with one part, the others are what a person asked for
        return Check(
            what=what,
            health=Health.BROKEN,
            note=f"an error nobody planned for: {type(error).__name__}: {error}",
            remedy="report this defect with `beamline doctor --json`",
        )
