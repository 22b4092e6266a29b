"""Looking at one site from time to time: whether work that has not begun there had better be elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestration.conditions import SiteCondition, SiteState
from orchestration.config import SitingPolicy
from orchestration.errors import OrchestrationError
from orchestration.flows.asking import answers
from orchestration.ledger.service import Document

_SILENT_SINCE = "silent_since"


@dataclass(kw_only=True)
class Watch:
    """Looks at one site from time to time, and says when work that has not begun had better be elsewhere.

    What counts as silence is that of its interface for jobs, whatever its status says; and as long as that has not been
    asked anything since it last answered, that of its status. `clock` is that of the ledger, by which one process tells
    another since when a site is silent.
    """

    site: str
    policy: SitingPolicy
    ask: Callable[[], SiteCondition]
    clock: Callable[[], float] = time.time
    _looked_at: float = float("-inf")
    _down: str = ""
    _silent: dict[str, float] = field(default_factory=dict)
    """Since when what is asked has not answered: its status, and its interface for jobs."""

    def answered(self) -> None:
        """Its interface for jobs does what it is there for, whatever is said about its status."""
        self._silent.clear()

    def unanswered(self) -> None:
        """It was asked about jobs, in vain."""
        self._silent.setdefault("jobs", self.clock())

    @property
    def silence(self) -> float:
        """Seconds."""
        return self.clock() - min(self._silent.values(), default=self.clock())

    def trouble(self) -> str:
        """What is wrong with the site; empty if nothing is."""
        if self.clock() - self._looked_at >= self.policy.look_seconds:
            self._look()
            self._looked_at = self.clock()
        if not self._down and self.silence > self.policy.silence_seconds:
            return f"{self.site} did not answer for {self.silence:.0f} s"
        return self._down

    def finding(self, trouble: str) -> Document:
        """For the run that has to act on it, as the progress of its operation."""
        return {"note": trouble, _SILENT_SINCE: self.clock() - self.silence}

    def heed(self, progress: Document | None) -> None:
        """Go on from the `finding` of another process: a silence is not waited for a second time."""
        since = (progress or {}).get(_SILENT_SINCE)
        if isinstance(since, int | float):
            self._silent["jobs"] = float(since)

    def _look(self) -> None:
        found = answers({self.site: self.ask}, seconds=self.policy.answer_seconds).get(self.site)
        if isinstance(found, Exception) and not isinstance(found, OrchestrationError):
            raise found
        if not isinstance(found, SiteCondition) or not found.answered:
            self._silent.setdefault("status", self.clock())
            self._down = ""
            return
        self._silent.pop("status", None)
        note = f" ({found.note})" if found.note else ""
        self._down = f"{self.site} went down{note}" if found.state is SiteState.DOWN else ""
