"""What the folders of jobs say of them. Globus Compute is a poor witness: to it a task may wait that has long ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.globus.compute_errands import GIVEN_UP_SECONDS, Errands
from orchestration.globus.compute_tasks import Stand, Task

_FIRST_SECONDS = 2.0
"""Nothing is looked at of a job that ends within this time."""

_STALE = 3
"""Looks that may be missed until it is not known any more that a job has not begun."""

_AT_ONCE = 500
"""Folders that one errand looks into: it is done within seconds, and its answer is small."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a job has left in its folder: since how many seconds it goes on (None: not begun), and a report."""

    started_ago: float | None
    over: bool


@dataclass(kw_only=True)
class _Known:
    due: float
    mark: Mark | None = None
    at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Errand:
    """`task` is empty until it is submitted."""

    folders: Sequence[str]
    began: float
    task: str = ""


@dataclass(kw_only=True)
class Survey:
    """Looks at all folders by one errand, each `every` so many seconds; nobody waits for it.

    Its task is read with those of the jobs, by one request: `open` names it, `learn` takes what came of it.
    """

    errands: Errands
    every: float
    clock: Callable[[], float] = time.monotonic
    trouble: str = ""
    """Why the last look failed."""
    _known: dict[str, _Known] = field(default_factory=dict)
    _errand: _Errand | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def open(self) -> list[str]:
        errand = self._errand
        return [] if errand is None or not errand.task else [errand.task]

    def learn(self, tasks: Mapping[str, Task]) -> None:
        with self._lock:
            errand = self._errand
            task = None if errand is None else tasks.get(errand.task)
            if errand is None or task is None:
                return
            if task.stand is not Stand.PENDING:
                self._errand = None
                self._write_down(errand, task)
            elif self.clock() - errand.began > GIVEN_UP_SECONDS:
                self._errand = None

    def look_after(self, folders: Iterable[str]) -> None:
        """Begin to look at those of these whose time has come, unless a look is under way."""
        errand = self._next(list(folders))
        if errand is None:
            return
        task = ""
        try:
            task = self.errands.begin("survey", list(errand.folders))
        except OrchestrationError as doubt:  # the web service may tell how the jobs ended all the same
            self.trouble = doubt.what
        finally:
            self._errand = replace(errand, task=task) if task else None

    def mark(self, folder: str) -> Mark | None:
        """As it was a moment ago; None: not known."""
        known = self._known.get(folder)
        if known is None or known.mark is None:
            return None
        age = self.clock() - known.at
        if known.mark.started_ago is not None:
            return replace(known.mark, started_ago=known.mark.started_ago + age)
        return known.mark if known.mark.over or age < _STALE * self.every else None

    def forget(self, folder: str) -> None:
        with self._lock:
            self._known.pop(folder, None)

    def _next(self, folders: Sequence[str]) -> _Errand | None:
        with self._lock:
            now = self.clock()
            for folder in folders:
                self._known.setdefault(folder, _Known(due=now + min(_FIRST_SECONDS, self.every)))
            due = sorted((folder for folder in folders if self._known[folder].due <= now), key=self._due)[:_AT_ONCE]
            if self._errand is not None or not due:
                return None
            for folder in due:
                self._known[folder].due = now + self.every
            self._errand = _Errand(folders=due, began=now)
            return self._errand

    def _due(self, folder: str) -> float:
        return self._known[folder].due

    def _write_down(self, errand: _Errand, task: Task) -> None:
        try:
            found = self.errands.value(task, where=errand.folders[0]).get("found")
        except ServiceUnavailable as doubt:
            self.trouble = doubt.what
            return
        self.trouble = ""
        for folder, row in zip(errand.folders, found if isinstance(found, list) else (), strict=False):
            if folder in self._known and isinstance(row, list):
                started, over = row
                ago = float(started) if isinstance(started, int | float) else None
                self._known[folder].mark = Mark(started_ago=ago, over=bool(over))
                self._known[folder].at = errand.began
