"""How a site is now, as far as it says so itself: what is looked at before work is given to it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from orchestration.ledger.service import Document, Json


class SiteState(enum.StrEnum):
    UP = "up"
    DEGRADED = "degraded"
    """It takes work, and says that something is wrong."""
    DOWN = "down"
    UNKNOWN = "unknown"
    """It does not say, or did not answer (`SiteCondition.answered`)."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A time without service, announced or going on, in seconds since the epoch; `end` is None if it is open."""

    start: float
    end: float | None = None
    what: str = ""

    def overlaps(self, start: float, end: float) -> bool:
        """Whether any of it lies between the two times."""
        return self.start < end and (self.end is None or start < self.end)

    def document(self) -> Document:
        return {"start": self.start, "end": self.end, "what": self.what}


@dataclass(frozen=True, kw_only=True)
class SiteCondition:
    """`note` is what the site says about its state. `hours_left` is what its project may still use, in the site's own
    unit (node hours mostly); None where the site does not say. `answered` is false where nobody was there to say it.
    """

    state: SiteState
    note: str = ""
    outages: tuple[Outage, ...] = ()
    hours_left: float | None = None
    answered: bool = True

    @property
    def takes_work(self) -> bool:
        """Whether it says itself that a job may be given to it. One that says nothing gets it if no other takes it."""
        return self.state in (SiteState.UP, SiteState.DEGRADED)

    def outage(self, start: float, end: float) -> Outage | None:
        """The first outage that touches a job between these times."""
        found = (each for each in self.outages if each.overlaps(start, end))
        return min(found, key=lambda each: each.start, default=None)

    def document(self) -> Document:
        """For the record of a choice."""
        outages: list[Json] = [each.document() for each in self.outages]
        return {
            "state": self.state.value,
            "answered": self.answered,
            "note": self.note,
            "outages": outages,
            "hours_left": self.hours_left,
        }


@runtime_checkable
class Tells(Protocol):
    """What says how a site is."""

    def condition(self) -> SiteCondition:
        """Asked now; raises ServiceUnavailable, or says UNKNOWN and not `answered`, where nobody answers."""
        ...
