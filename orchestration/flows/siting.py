"""Which of several sites takes a piece of work, and why: from what is known of each at one moment.

Nothing is asked or changed here. `orchestration.flows.prospects` finds out what is weighed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from orchestration.conditions import Outage, SiteCondition, SiteState
from orchestration.ledger.decisions import Candidate, Verdict
from orchestration.ledger.service import Document
from orchestration.policy import Zone

_RANKS: Final = {SiteState.UP: 0, SiteState.DEGRADED: 1, SiteState.UNKNOWN: 2, SiteState.DOWN: 3}
"""A site that says of itself that it is better goes first, however long its queue is."""


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """What is known of one site, for one piece of work. All times are in seconds."""

    site: str
    zone: Zone
    condition: SiteCondition
    job_seconds: float
    """How long the job may take."""
    node_hours: float = 0.0
    """What that would take from the allocation."""
    queue_seconds: float | None = None
    """How long jobs waited there lately; None if there were none."""
    copy_seconds: float = 0.0
    """How long it takes at most to bring the data there."""
    data_there: bool = False
    left: str = ""
    """Why this work was taken back from there; it was not begun."""

    @property
    def begins_in(self) -> float:
        """Until the job is expected to begin."""
        return self.copy_seconds + (self.queue_seconds or 0.0)

    @property
    def ends_in(self) -> float:
        """Until it is over in any case."""
        return self.begins_in + self.job_seconds

    def document(self) -> Document:
        return {
            "zone": self.zone.value,
            "condition": self.condition.document(),
            "job_seconds": self.job_seconds,
            "node_hours": self.node_hours,
            "queue_seconds": self.queue_seconds,
            "copy_seconds": self.copy_seconds,
            "data_there": self.data_there,
        }


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`site` is None where no site can take the work. The candidates stand in the order in which they were given."""

    site: str | None
    candidates: tuple[Candidate, ...]

    @property
    def why_none(self) -> str:
        """What keeps each site from taking the work, in one line."""
        return "; ".join(candidate.sentence for candidate in self.candidates) or "no site is named for this beamline"


def weigh(
    prospects: Sequence[Prospect],
    *,
    now: float,
    pin: str = "",
    export_controlled: bool = False,
    preference: float = 0.0,
) -> Choice:
    """The site at which the work is expected to begin first, of those that can take it.

    `prospects` stand in the order in which people prefer the sites: one is chosen before those that are named earlier
    only if the work begins there sooner by more than `preference` seconds for each. `pin` names the one site that
    may be chosen, whatever its queue or its calendar. The same arguments always give the same choice.
    """
    against = {each.site: _against(each, now=now, pin=pin, export_controlled=export_controlled) for each in prospects}
    able = [each for each in prospects if not against[each.site]]
    places = {each.site: place for place, each in enumerate(prospects)}

    def price(each: Prospect) -> tuple[float, ...]:
        place = places[each.site]
        return _RANKS[each.condition.state], each.begins_in + place * preference, place

    best = min(able, key=price, default=None)
    candidates = tuple(_candidate(each, against[each.site], best) for each in prospects)
    return Choice(site=None if best is None else best.site, candidates=candidates)


def _candidate(each: Prospect, against: str, best: Prospect | None) -> Candidate:
    found = Candidate(site=each.site, verdict=Verdict.PASSED_OVER, reasons=(against,), facts=each.document())
    if each.left:
        return replace(found, verdict=Verdict.LEFT)
    if best is None or against:
        return found
    if each is best:
        return replace(found, verdict=Verdict.CHOSEN, reasons=_described(each))
    return replace(found, verdict=Verdict.POSSIBLE, reasons=(*_described(each), _behind(each, best)))


def _against(each: Prospect, *, now: float, pin: str, export_controlled: bool) -> str:
    """What keeps a site from taking the work; empty if nothing does."""
    condition = each.condition
    if export_controlled and each.zone is not Zone.BEAMLINE:
        return "the scan is export-controlled and this site is outside the beamline"
    if pin and each.site != pin:
        return f"the run is pinned to {pin}"
    if each.left:
        return each.left
    if condition.state is SiteState.DOWN:
        return _noted("down", condition.note)
    if condition.hours_left is not None and condition.hours_left < each.node_hours:
        return f"{_hours(condition.hours_left)} left of its allocation, and {_hours(each.node_hours)} are needed"
    outage = condition.outage(now, now + each.ends_in)
    # Who pins a run to a site may want it to wait there for the end of the maintenance.
    return _announced(outage, now) if outage is not None and not pin else ""


def _described(each: Prospect) -> tuple[str, ...]:
    condition = each.condition
    queue = "no job there lately" if each.queue_seconds is None else f"queue wait lately {_span(each.queue_seconds)}"
    data = "raw data already there" if each.data_there else f"raw data to be copied, {_span(each.copy_seconds)} at most"
    hours = () if condition.hours_left is None else (f"{_hours(condition.hours_left)} left of its allocation",)
    return (_noted(condition.state.value, condition.note), queue, data, *hours)


def _behind(each: Prospect, best: Prospect) -> str:
    if _RANKS[each.condition.state] != _RANKS[best.condition.state]:
        return f"{best.site} is {best.condition.state.value}"
    sooner = each.begins_in - best.begins_in
    if sooner > 0:
        return f"{best.site} would begin {_span(sooner)} sooner"
    return f"{best.site} is preferred"


def _announced(outage: Outage, now: float) -> str:
    until = "" if outage.end is None else f" {'until' if outage.start <= now else 'to'} {_clock(outage.end, now)}"
    what = f" ({outage.what})" if outage.what else ""
    if outage.start <= now:
        return f"in maintenance{until}{what}"
    return f"planned maintenance from {_clock(outage.start, now)}{until} before the job could end{what}"


def _noted(state: str, note: str) -> str:
    return f"{state} ({note})" if note else state


def _clock(seconds: float, now: float) -> str:
    """Time of day here, with the day where that is another one."""
    moment, today = (datetime.fromtimestamp(each, UTC).astimezone() for each in (seconds, now))
    return f"{moment:%H:%M}" if moment.date() == today.date() else f"{moment:%d %b %H:%M}"


def _hours(hours: float) -> str:
    return f"{hours:.0f} h" if hours >= 100 else f"{hours:.2g} h"


def _span(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``"""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
