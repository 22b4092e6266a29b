"""Looking after jobs at their site: small tasks of its login endpoint, each awaited for a moment only."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.errors import ServiceUnavailable
from orchestration.globus.compute_clients import Refused
from orchestration.globus.compute_tasks import ComputeTasks, Stand, Task
from orchestration.ledger.service import Document, Json

GIVEN_UP_SECONDS = 120.0
"""An errand that takes longer is begun again: looking twice does no harm."""

_LOOK_SECONDS = 0.03


class Stop(enum.StrEnum):
    """What the report of a job that is to end says."""

    NOT = ""
    CANCELLED = "cancelled"
    LOST = "terminated"


class LookFailed(ServiceUnavailable):
    """Raised when the login endpoint answered that it could not look into a folder."""


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What lies in a job's folder. `started_ago` is in seconds; None: it has not begun. `stopped` is why it was.

    `submitted` is in seconds since the epoch, and None until its task was begun.
    """

    report: Document | None
    started_ago: float | None
    stopped: str = ""
    submitted: float | None = None

    @classmethod
    def parse(cls, found: Mapping[str, object]) -> Sighting:
        report, started, submitted = found.get("report"), found.get("started"), found.get("submitted")
        return cls(
            report=report if isinstance(report, dict) else None,
            started_ago=float(started) if isinstance(started, int | float) else None,
            stopped=str(found.get("stopped") or ""),
            submitted=float(submitted) if isinstance(submitted, int | float) else None,
        )


@dataclass(frozen=True)
class _Open:
    task: str
    began: float


@dataclass(frozen=True)
class Errands:
    """At the endpoint `endpoint`, whose name for people is `name`.

    A job that was told to stop `dead_after` seconds ago and left no report is not running.
    """

    tasks: ComputeTasks
    endpoint: str
    name: str
    dead_after: float
    _open: dict[tuple[str, Stop], _Open] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def begin(self, function: str, *arguments: Json) -> str:
        """The task that does it.

        Raises:
            ServiceUnavailable: if the endpoint is offline.
            ConfigError: if there is no such endpoint, or it is closed to this service.
        """
        try:
            self.tasks.require_online(self.endpoint, name=self.name)
            return self.tasks.submit(self.endpoint, function, arguments)
        except Refused as refused:
            raise refused.of_question() from refused

    def look(self, folder: str, *, stop: Stop = Stop.NOT, patience: float) -> Sighting | None:
        """What lies in a job's folder, after what `stop` says was done about it; None: ask again later.

        Raises:
            ServiceUnavailable: if the endpoint is offline; LookFailed, if it cannot look.
            ConfigError: as `begin`.
        """
        errand = self._errand(folder, stop)
        task = self._ended(errand.task, patience)
        if task is None:
            return None
        self._open.pop((folder, stop), None)
        return Sighting.parse(self.value(task, where=folder))

    def clear(self, folders: Sequence[str], files: Sequence[str], *, patience: float) -> None:
        """Remove what jobs left that are over.

        Raises:
            ServiceUnavailable: if that is not certain.
            ConfigError: as `begin`.
        """
        task = self._ended(self.begin("clear", [*folders], [*files]), patience)
        there = ["no word of it yet"] if task is None else self.value(task, where=[*folders, *files][0]).get("there")
        if not isinstance(there, list) or there:
            raise ServiceUnavailable(f"what jobs left was not all removed: {there}", where=self.name)

    def _ended(self, errand: str, patience: float) -> Task | None:
        """None if it is not over within that time."""
        end = time.monotonic() + patience
        while (task := self.tasks.read([errand])[errand]).stand is Stand.PENDING:
            if time.monotonic() > end:
                return None
            time.sleep(_LOOK_SECONDS)
        return task

    def value(self, task: Task, *, where: str) -> Document:
        """What an errand that is over came back with.

        Raises:
            LookFailed: if it failed.
        """
        if task.stand is Stand.RETURNED:
            return task.value
        said = task.error.strip().splitlines()
        kind = LookFailed if task.stand is Stand.RAISED else ServiceUnavailable
        raise kind(
            f"the endpoint {self.name} could not look into the job's folder: {said[-1] if said else task.status}",
            where=where,
            next_step="check the endpoint at the facility, and that it may read that folder; it is asked again",
        )

    def _errand(self, folder: str, stop: Stop) -> _Open:
        with self._lock:
            known = self._open.get((folder, stop))
            if known is None or time.monotonic() - known.began > GIVEN_UP_SECONDS:
                task = self.begin("look", folder, stop.value, self.dead_after)
                known = self._open[folder, stop] = _Open(task, time.monotonic())
            return known
