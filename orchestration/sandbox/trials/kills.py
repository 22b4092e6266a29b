"""Where a process of a trial is to be killed, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestration.errors import OrchestrationError
from orchestration.ledger.boundary import Boundary
from orchestration.ledger.operation import error_from
from orchestration.ledger.service import Document

_WRITES = {Boundary.BEFORE_WRITE, Boundary.AFTER_WRITE}


@dataclass(frozen=True, kw_only=True)
class Kill:
    """At the `nth` time that a process reaches the boundary called `at`.

    Without a name: at the `nth` boundary of those that are called none of `spared`.
    """

    at: str = ""
    nth: int = 1
    spared: tuple[str, ...] = ()

    def document(self) -> Document:
        return {"at": self.at, "nth": self.nth, "spared": list(self.spared)}

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Kill:
        return cls(at=document["at"], nth=document["nth"], spared=tuple(document["spared"]))

    def __str__(self) -> str:
        return f"killed {self.at}, {self.nth}." if self.at else f"killed at boundary {self.nth}"


@dataclass
class Names:
    """Gives each boundary that a process reaches a name: writes are told apart by the step that came before them."""

    _step: str = "the beginning"

    def name(self, boundary: Boundary, subject: str) -> str:
        if boundary in _WRITES:
            return f"{boundary} of {subject}, after {self._step}"
        self._step = subject
        return f"{boundary} of {subject}"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process of a trial ended. `error` is what the flow raised."""

    killed: bool
    killed_at: str = ""
    """The boundary, if that was why it was killed."""
    value: Any = None
    error: OrchestrationError | None = None
    error_type: str = ""
    boundaries: tuple[str, ...] = field(default=(), repr=False)
    """The names of all that were reached; none if it was killed by somebody else."""

    @property
    def completed(self) -> bool:
        return not self.killed and not self.error_type

    @classmethod
    def parse(cls, document: dict[str, Any] | None, *, killed: bool) -> Ended:
        if document is None or killed:
            last_words = document or {}
            reached = tuple(last_words.get("boundaries", ()))
            return cls(killed=True, killed_at=last_words.get("killed_at", ""), boundaries=reached)
        error = document["error"]
        return cls(
            killed=False,
            value=document["value"],
            error=None if error is None else error_from(error),
            error_type=document["error_type"],
            boundaries=tuple(document["boundaries"]),
        )


def each(boundaries: Iterable[str]) -> list[Kill]:
    """One kill for each boundary that an undisturbed run reached, in their order."""
    seen: Counter[str] = Counter()
    kills = []
    for name in boundaries:
        seen[name] += 1
        kills.append(Kill(at=name, nth=seen[name]))
    return kills


def kinds(boundaries: Sequence[str]) -> list[Kill]:
    """One kill for each name, at the first boundary that has it.

    What comes before something, right after the end of another thing, finds the world as that had left it: it is left
    out.
    """
    behind = ["", *boundaries]
    names = [
        name
        for name, earlier in zip(boundaries, behind, strict=False)
        if not (name.startswith("before-") and earlier.startswith("after-"))
    ]
    return [Kill(at=name) for name in dict.fromkeys(names)]
