"""Why a job is over, as far as the facility's own words tell it: the API's states say little."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.errors import (
    Cancelled,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobPreempted,
    JobTimedOut,
    NodeFailed,
    OperationFailed,
    OutOfMemory,
    OutputMissing,
)
from orchestration.iri.records import IriJob, JobState
from orchestration.jobs import JobSpec
from orchestration.ledger.service import Document, Failed, Json, Status
from orchestration.remote import Times, dated_at, verdict


@dataclass(frozen=True, kw_only=True)
class Ending:
    """`certain`: whether this is believed even where the runner's report only says that the program was stopped."""

    error: type[OperationFailed]
    what: str
    next_step: str = ""
    certain: bool = True


_LOG = "read the job's log in the site's job folder, then start the flow again"
_UNSEEN = (
    "see that `storage` of the site names the file system of its job_folder, and read the job's log there, "
    "then start the flow again"
)

# The schedulers' own words, which facilities put into the message or the metadata. Sources: ``man squeue`` (JOB STATE
# CODES), and the exit values of the PBS Professional reference guide.
_WORDS: tuple[tuple[str, Ending], ...] = (
    (r"OUT.?OF.?ME|\bOOM\b", Ending(error=OutOfMemory, what="was stopped because it used more memory than it has")),
    (r"NODE.?FAIL|BOOT.?FAIL", Ending(error=NodeFailed, what="ended because its node failed")),
    (r"PREEMPT", Ending(error=JobPreempted, what="had to make room for another job")),
    (r"TIME.?OUT|TIME.?LIMIT|WALL.?TIME", Ending(error=JobTimedOut, what="was stopped at its walltime")),
    (r"\bDEADLINE\b", Ending(error=JobNotStarted, what="could not begin by the time by which it had to")),
    (r"CANCELL?ED|\bDELETED\b", Ending(error=Cancelled, what="was cancelled")),
)
_PBS: Mapping[int, Ending] = {
    -26: Ending(error=OutOfMemory, what="was stopped because it used more virtual memory than it has"),
    -27: Ending(error=OutOfMemory, what="was stopped because it used more memory than it has"),
    -29: Ending(error=JobTimedOut, what="was stopped at its walltime"),
}


def ending(job: IriJob) -> Ending:
    """For a job that is over."""
    if job.state is JobState.CANCELED:
        return Ending(error=Cancelled, what="was cancelled")
    if job.state is JobState.COMPLETED:
        # It may have done all of its work: nobody does it again before a person has looked.
        return Ending(error=OutputMissing, what="ended, but left no report", next_step=_UNSEEN, certain=False)
    if job.exit_code is not None and job.exit_code in _PBS:
        return _PBS[job.exit_code]
    for pattern, meaning in _WORDS:
        if re.search(pattern, job.words, re.IGNORECASE):
            return meaning
    code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
    said = f" ({job.message})" if job.message else ""
    return Ending(error=JobFailed, what=f"failed{code} before it could report{said}", next_step=_LOG, certain=False)


@dataclass(frozen=True, kw_only=True)
class Remains:
    """What is left of a job: what the facility says of it (`job`, None if it does not know it), perhaps a report."""

    title: str
    spec: JobSpec | None = None
    site: str
    token: str
    id: str
    job: IriJob | None

    @property
    def where(self) -> str:
        return f"{self.site}, job {self.id}"

    @property
    def may_report(self) -> bool:
        """Not one that was stopped before it began, as far as that is told."""
        return self.job is not None and (self.job.state is not JobState.CANCELED or self.job.exit_code is not None)

    def reported(self, content: bytes | None) -> Status | None:
        """What the runner's report means, with the facility's word for why the program was stopped.

        None while there is no whole report.
        """
        try:
            report = json.loads(content or b"null")
        except ValueError:
            return None
        if not isinstance(report, dict):
            return None
        status = verdict(self.title, report, where=self.where, facts=self._facts(report), spec=self.spec)
        if not isinstance(status, Failed) or self.job is None or not _stopped(report):
            return status
        why = ending(self.job)
        if not why.certain:
            return status
        return Failed(error=self._error(why), evidence=status.evidence)

    def thought_lost(self, found: Status) -> bool:
        """Whether it was stopped by a marker, without a word of the facility's about that."""
        canceled = self.job is not None and self.job.state is JobState.CANCELED
        return isinstance(found, Failed) and isinstance(found.error, Cancelled) and not canceled

    def unreported(self) -> Failed:
        """Of a job that is over and left nothing behind."""
        if self.job is None:
            return self.lost()
        return Failed(error=self._error(ending(self.job)), evidence=self._facts({}))

    def given_up(self) -> Failed:
        """Of one that was stopped because it was thought lost, and was not."""
        error = JobLost(
            f"job {self.title} was stopped: the facility did not know it for a while, and it may be submitted again",
            where=self.where,
            next_step="start the flow again; the job does not run any more",
        )
        return Failed(error=error, evidence=self._facts({}))

    def lost(self) -> Failed:
        error = JobLost(
            f"job {self.title} is not known at the facility any more, and left no report",
            where=self.where,
            next_step="start the flow again; look in the site's job folder for what it left",
        )
        return Failed(error=error, evidence=self._facts({}))

    def _error(self, why: Ending) -> OperationFailed:
        return why.error(f"job {self.title} {why.what}", where=self.where, next_step=why.next_step)

    def _facts(self, report: Document) -> Document:
        """The runner knows when it began and ended; when it was asked for is in its token."""
        began, seconds = _number(report.get("started_at")), _number(report.get("seconds"))
        ended = began + seconds if began and seconds is not None else (self.job.time if self.job else None)
        times = Times(submitted=dated_at(self.token), started=began or None, ended=ended)
        told: Document = (
            {}
            if self.job is None
            else {
                "facility_state": self.job.said,
                "facility_message": self.job.message,
                "facility_exit_code": self.job.exit_code,
            }
        )
        return {"site": self.site, "job": self.id, **told, **times.document}


def _stopped(report: Document) -> bool:
    """Whether something from outside ended the program: by the runner, or over its head."""
    code = report.get("code")
    killed = isinstance(code, int) and code < 0
    return report.get("reason") in ("terminated", "cancelled") or (report.get("reason") == "exited" and killed)


def _number(found: Json) -> float | None:
    return float(found) if isinstance(found, int | float) else None
