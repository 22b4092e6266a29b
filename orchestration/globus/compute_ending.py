"""What became of a job: by the report in its folder, which is made to be there before anything is said of its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from orchestration.config.sites import ENDING_SECONDS
from orchestration.globus.compute_errands import Errands, LookFailed, Sighting, Stop
from orchestration.globus.compute_job import Job
from orchestration.globus.compute_tasks import Stand, Task
from orchestration.globus.compute_verdict import duplicate, gone, never_began, refused, remains, trouble
from orchestration.ledger.service import Document, Failed, Json, Progress, Running, Status
from orchestration.remote import Times, verdict

LOOKED_AT = Running(progress=Progress(note="its folder is being looked at"), needs_care=True)

_LOOK_SECONDS = 0.5
"""How long a poll waits for the login endpoint to look before it says that it does."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """In seconds.

    `unknown`: for how long the web service may not know a task that has not begun. `dead`: by then a runner that was
    told to stop has left a report, even if it was checking outputs. `ending`: what a runner may take beyond the job's
    own time, to stop it and to check its outputs. `cancel`: how long a cancellation waits for the report. `look`:
    between two looks at the folders of jobs that wait or run.
    """

    unknown: float = 30.0
    dead: float = 90.0
    ending: float = ENDING_SECONDS
    cancel: float = 4.0
    look: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Endings:
    """Of the jobs of one site. What it remembers is lost with the process, and found out again."""

    errands: Errands
    patience: Patience
    _given_up: set[str] = field(default_factory=set, init=False)
    """Folders of jobs that are being stopped, since they are thought lost."""
    _unknown: dict[str, float] = field(default_factory=dict, init=False)
    _told: dict[str, Sighting] = field(default_factory=dict, init=False)

    def settle(self, job: Job, task: Task) -> Status:
        """Of a job of which Globus Compute has nothing, or nothing good, to tell.

        Raises:
            ServiceUnavailable, ConfigError: if the login endpoint does not look.
        """
        try:
            seen = self._over(job, task)
        except LookFailed:
            if not refused(task):
                raise
            # Where nothing can be looked at, nothing can begin either: the endpoint's own words say why.
            return Failed(error=gone(job.title, task, {}, where=job.where), evidence={**remains(task), **job.facts})
        if isinstance(seen, Running):
            return seen
        self.forget(job.folder)
        return self._verdict(job, task, seen)

    def reported(self, job: Job, report: Document, *, submitted: Json = None) -> Status:
        """What the report of its runner means."""
        started, seconds = report.get("started_at"), report.get("seconds")
        began = float(started) if isinstance(started, int | float) and started else None
        times = Times(
            submitted=float(submitted) if isinstance(submitted, int | float) else None,
            started=began,
            ended=began + float(seconds) if began is not None and isinstance(seconds, int | float) else None,
        )
        return verdict(job.title, report, where=job.where, facts=job.facts | times.document, spec=job.request)

    def in_time(self, job: Job, started_ago: float) -> bool:
        """Whether its runner may still be at it."""
        return started_ago < job.request.duration + self.patience.ending

    def keep(self, folder: str, seen: Sighting) -> None:
        """What somebody else saw who looked at a job that is over: for the next question about it."""
        self._told[folder] = seen

    def known(self, folder: str) -> bool:
        """Whether it is known that the job is over."""
        return folder in self._told

    def forget(self, folder: str) -> None:
        self._given_up.discard(folder)
        self._unknown.pop(folder, None)
        self._told.pop(folder, None)

    def _over(self, job: Job, task: Task) -> Sighting | Running:
        """What lies in the folder, once there is a report.

        No job is told as lost before it has one. It will be submitted again, and without a report it might begin, or
        go on, behind our back: so it is stopped, which ends in a report whatever has become of its runner.
        """
        stop = Stop.LOST if job.folder in self._given_up else Stop.NOT
        seen = self._told.get(job.folder) or self._look(job, stop)
        if seen is None:
            return LOOKED_AT
        if seen.report is None and stop is Stop.NOT:
            if self._may_go_on(job, task, seen):
                return Running(progress=Progress(note="Globus Compute does not tell how it is"), needs_care=True)
            self._given_up.add(job.folder)
            seen = self._look(job, Stop.LOST)
        if seen is None or seen.report is None:
            return Running(progress=Progress(note="it is thought lost, and is being stopped"), needs_care=True)
        return seen

    def _look(self, job: Job, stop: Stop) -> Sighting | None:
        return self.errands.look(job.folder, stop=stop, patience=_LOOK_SECONDS)

    def _may_go_on(self, job: Job, task: Task, seen: Sighting) -> bool:
        """Whether a job without a report may wait or run: nothing stopped it or took its worker, and it is in time."""
        ended = task.stand is Stand.RAISED or (task.stand is Stand.RETURNED and not duplicate(task))
        if seen.stopped or ended:
            return False
        if seen.started_ago is not None:
            return self.in_time(job, seen.started_ago)
        return task.stand is not Stand.UNKNOWN or self._too_new(job)

    def _too_new(self, job: Job) -> bool:
        """Whether the web service, which does not know the task, may only not know it yet."""
        first = self._unknown.setdefault(job.folder, time.monotonic())
        return time.monotonic() - first < self.patience.unknown

    def _verdict(self, job: Job, task: Task, seen: Sighting) -> Status:
        report = seen.report or {}
        if seen.stopped != Stop.LOST.value or report.get("reason") not in set(Stop):
            return self.reported(job, report, submitted=seen.submitted)
        error = trouble(job.title, task, job.site, where=job.where) if never_began(task) else None
        evidence = {**report, **remains(task), **job.facts}
        return Failed(error=error or gone(job.title, task, report, where=job.where), evidence=evidence)
