"""What NERSC says about itself: its machine, its outages, and the hours that are left of the project."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from orchestration.conditions import Outage, SiteCondition, SiteState
from orchestration.config import Credentials, NerscSite
from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.ledger.service import Json
from orchestration.nersc.client import Clients
from orchestration.times import clock

_STATES = {"active": SiteState.UP, "degraded": SiteState.DEGRADED, "unavailable": SiteState.DOWN}
_OVER = ("Cancelled", "Completed")


@dataclass
class _Kept:
    """The last answer, and when it was asked for."""

    at: float = float("-inf")
    condition: SiteCondition = field(default_factory=lambda: SiteCondition(state=SiteState.UNKNOWN))


@dataclass(frozen=True, kw_only=True)
class NerscStatus:
    """Status and outages are public; the hours need `credentials`. `keep` is for how many seconds `glance` holds."""

    site: NerscSite
    credentials: Credentials | None = None
    keep: float = 10.0
    _kept: _Kept = field(default_factory=_Kept, init=False, repr=False, compare=False)

    def condition(self) -> SiteCondition:
        """All of it, asked now. UNKNOWN if NERSC does not tell how its machine is; the note says so.

        Raises:
            ConfigError: if NERSC does not let this service in.
        """
        answered = True
        try:
            state, note = self._machine()
        except ServiceUnavailable as error:
            state, note, answered = SiteState.UNKNOWN, error.what, False
        return SiteCondition(
            state=state, note=note, outages=self._outages(), hours_left=self._hours(), answered=answered
        )

    def glance(self) -> SiteCondition:
        """The machine and its outages, as of some seconds ago; without the hours."""
        now = time.monotonic()
        if now - self._kept.at > self.keep:
            self._kept.at = now
            try:
                state, note = self._machine()
            except OrchestrationError as error:
                self._kept.condition = SiteCondition(state=SiteState.UNKNOWN, note=error.what)
            else:
                outages = () if state is SiteState.UP else self._outages()
                self._kept.condition = SiteCondition(state=state, note=note, outages=outages)
        return self._kept.condition

    def trouble(self) -> str:
        """What to tell somebody who waits for the machine; empty if the status page knows of nothing."""
        found = self.glance()
        if found.state in (SiteState.UP, SiteState.UNKNOWN):
            return ""
        now = time.time()
        outage = found.outage(now, now + 1)
        end = "" if outage is None or outage.end is None else f", planned to end at {clock(outage.end)}"
        said = found.note or (outage.what if outage else "") or "no reason is given"
        return (
            f"wait: NERSC's status page calls {self.site.machine} {found.state.value} ({said}){end}; "
            "the operation is asked again until its deadline"
        )

    def _machine(self) -> tuple[SiteState, str]:
        answer = self._public.call(lambda client: client.get(f"status/{self.site.machine}").json(), where="status")
        found = answer if isinstance(answer, dict) else {}
        notes = found.get("notes")
        said = [str(note) for note in notes] if isinstance(notes, list) else []
        state = _STATES.get(str(found.get("status")), SiteState.UNKNOWN)
        if state is not SiteState.UP and not said and found.get("description"):
            said = [str(found["description"])]
        return state, "; ".join(said)

    def _outages(self) -> tuple[Outage, ...]:
        """Those that are not over, planned ones and others; the same one may be told twice."""
        found: set[Outage] = set()
        for url in ("status/outages/planned", "status/outages"):
            found |= {outage for outage in map(_outage, self._listed(url)) if outage is not None}
        return tuple(sorted(found, key=lambda outage: outage.start))

    def _listed(self, url: str) -> list[Mapping[str, Json]]:
        try:
            answer = self._public.call(lambda client: client.get(f"{url}/{self.site.machine}").json(), where="status")
        except OrchestrationError:
            return []  # it says nothing about outages; the state of the machine is told apart from this
        return [each for each in answer if isinstance(each, dict)] if isinstance(answer, list) else []

    def _hours(self) -> float | None:
        project = self.site.project or self.site.account
        if self.credentials is None or not project:
            return None
        try:
            answer = self._private.call(lambda client: client.get("account/projects").json(), where="account")
        except ServiceUnavailable:
            return None
        listed = [each for each in answer if isinstance(each, dict)] if isinstance(answer, list) else []
        gpu = "gpu" in self.site.constraint
        # An account for GPUs may be written als_g; the project is als.
        names = (project, project.removesuffix("_g"))
        return next((_left(each, gpu=gpu) for each in listed if each.get("repo_name") in names), None)

    @functools.cached_property
    def _public(self) -> Clients:
        return Clients(site=self.site)

    @functools.cached_property
    def _private(self) -> Clients:
        return Clients(site=self.site, credentials=self.credentials)


def _left(project: Mapping[str, Json], *, gpu: bool) -> float | None:
    """The least of what user and project may still use, of this kind of node; of all, if kinds are not told apart."""
    for kind in ("gpu" if gpu else "cpu", ""):
        prefix = f"{kind}_" if kind else ""
        found = [
            given - used
            for part in ("", "project_")
            for given, used in [(project.get(f"{prefix}{part}hours_given"), project.get(f"{prefix}{part}hours_used"))]
            if isinstance(given, int | float) and isinstance(used, int | float)
        ]
        if found:
            return max(0.0, min(found))
    return None


def _outage(answer: Mapping[str, Json]) -> Outage | None:
    start, end = _time(answer.get("start_at")), _time(answer.get("end_at"))
    if start is None or answer.get("status") in _OVER or (end is not None and end < time.time()):
        return None
    what = str(answer.get("description") or answer.get("notes") or "outage")
    return Outage(start=start, end=end, what=what)


def _time(text: Json) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
