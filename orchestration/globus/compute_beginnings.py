"""Whether jobs have begun. Globus Compute is a poor witness: to it a task may wait that has run for an hour."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from orchestration.errors import ServiceUnavailable
from orchestration.globus.compute_errands import Errands

_FIRST_SECONDS = 2.0
"""Nothing is looked at of a job that ends within this time."""

_AGAIN_SECONDS = 30.0


@dataclass
class _Known:
    due: float
    begun: bool | None = None


@dataclass(frozen=True)
class Beginnings:
    """What the folders of jobs say; looked at by errands that nobody waits for."""

    errands: Errands
    _known: dict[str, _Known] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def begun(self, folder: str) -> bool | None:
        """As it was half a minute ago at the most; None: not known."""
        now = time.monotonic()
        with self._lock:
            known = self._known.setdefault(folder, _Known(now + _FIRST_SECONDS))
        if known.begun or now < known.due:
            return known.begun
        try:
            seen = self.errands.look(folder, patience=0.0)
        except ServiceUnavailable:
            known.begun, known.due = None, now + _AGAIN_SECONDS
            return None
        if seen is not None:
            known.begun = seen.report is not None or seen.started_ago is not None
            known.due = now + _AGAIN_SECONDS
        return known.begun

    def forget(self, folder: str) -> None:
        with self._lock:
            self._known.pop(folder, None)
