"""What became of a job: told by its report, or, where there is none, by Slurm and by what was written down of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.errors import JobFailed, JobLost, JobTimedOut, OperationFailed
from orchestration.jobs import JobSpec
from orchestration.ledger.service import Document, Failed, Json, Status
from orchestration.nersc.durations import durations
from orchestration.nersc.rows import Row
from orchestration.nersc.states import ENDINGS, Ending, exit_text
from orchestration.remote import Times, dated_at, last_line, last_words, verdict

_SIGNALLED = range(129, 160)
"""What programs that tidy up exit with when a signal tells them to end: 128 and its number."""

_LOST_SIGHT = Ending(
    error=JobLost,
    what="had been given up as lost, and was stopped",
    next_step="start the flow again; the job is not running any more",
    overrides=True,
)
_TAKEN_DOWN = Ending(
    error=JobFailed,
    what="was cancelled at the facility",
    next_step="ask the facility why, then start the flow again",
    overrides=True,
)


@dataclass(frozen=True, kw_only=True)
class Remains:
    """Of one job: `row` as Slurm tells it last, None if it does not; `log` is the path of what Slurm wrote.

    The row may lag behind: it is then one of a job that is not over. `seen` is what squeue told while it listed the
    job, `sent` when this process submitted it, in seconds since the epoch. `given_up`: if it was cancelled, then by
    this service, which thought it lost.
    """

    title: str
    spec: JobSpec | None = None
    site: str
    job: str
    token: str = ""
    row: Row | None
    seen: Row | None = None
    sent: float | None = None
    given_up: bool = False
    log: str

    @property
    def ending(self) -> Ending | None:
        """None while the job is not over, as far as Slurm says."""
        row = self.row
        if row is None:
            return None
        if row.state == "CANCELLED" and self.given_up:
            return _LOST_SIGHT
        # For a moment, sacct calls who cancelled it the owner of the job as well.
        owner = row.owner if self.seen is None else self.seen.owner
        if row.state == "CANCELLED" and row.by and owner and row.by != owner:
            return _TAKEN_DOWN
        if row.state == "DEADLINE" and row.began:
            return Ending(error=JobTimedOut, what="was stopped at its deadline", overrides=True)
        return ENDINGS.get(row.state)

    @property
    def where(self) -> str:
        return f"{self.site}, job {self.job}, log {self.log}"

    def reported(self, report: Mapping[str, Json]) -> Status:
        """By its report; Slurm explains why the runner or the program was stopped, which neither of them sees."""
        found = verdict(self.title, report, where=self.where, facts=self._facts(report), spec=self.spec)
        why = self._force(report) if isinstance(found, Failed) else None
        if not isinstance(found, Failed) or why is None or type(found.error) is why.error:
            return found
        return Failed(error=self._error(why, report), evidence=found.evidence)

    def unreported(self, ending: Ending, left: Document) -> Failed:
        """By Slurm alone: never success. `left` is what Slurm and the program wrote."""
        return Failed(error=self._error(ending, left), evidence={**self._facts({}), **left})

    def lost(self, left: Document) -> Failed:
        row = self.row
        known = "is known neither to squeue nor to sacct"
        if row is not None:
            known = f"has left squeue, while sacct calls it {row.state} for longer than it may last"
        error = JobLost(
            f"job {self.title} {known}, and left no report{_said(left)}",
            where=self.where,
            next_step="read the log there, if there is one, then start the flow again",
        )
        return Failed(error=error, evidence={**self._facts({}), **left})

    def _force(self, report: Mapping[str, Json]) -> Ending | None:
        """By whose force it ended, if it did not end by itself."""
        ending = self.ending if self.ending is not None and self.ending.overrides else None
        if self.given_up and report.get("reason") == "cancelled":
            return ending or _LOST_SIGHT
        return ending if stopped(report, self.row) else None

    def _error(self, ending: Ending, left: Mapping[str, Json]) -> OperationFailed:
        row = self.row
        by = f" by user {row.by}" if row is not None and row.by else ""
        code = exit_text(row.exit_code) if row is not None and row.state in ("FAILED", "COMPLETED") else ""
        said = f" with {code}" if code else ""
        what = f"job {self.title} {ending.what}{by}{said}{_said(left)}"
        return ending.error(what, where=self.where, next_step=ending.next_step)

    def _facts(self, report: Mapping[str, Json]) -> Document:
        found: Document = {"job": self.job, **self._durations(report)}
        row = self.row
        if row is None or not row.over:
            return found
        return found | {"state": row.state, "slurm_exit_code": row.exit_code, "nodes": row.nodes}

    def _durations(self, report: Mapping[str, Json]) -> Document:
        told, seen = (Times() if row is None else row.times for row in (self.row, self.seen))
        slurm = Times(
            submitted=told.submitted or seen.submitted,
            started=told.started or seen.started,
            ended=told.ended if self.ending is not None else None,
        )
        return durations(slurm, report, reserved=dated_at(self.token), sent=self.sent)


def stopped(report: Mapping[str, Json], row: Row | None = None) -> bool:
    """Whether the report tells of an end by force, whose reason only Slurm knows."""
    code = report.get("code")
    killed = isinstance(code, int) and (code < 0 or code in _SIGNALLED)
    return report.get("reason") == "terminated" or killed or (row is not None and row.state == "OUT_OF_MEMORY")


def _said(left: Mapping[str, Json]) -> str:
    """The last line that Slurm wrote, and the last that the program did."""
    log, words = last_line(str(left.get("log") or "")), last_words(left)
    return (f": {log}" if log else "") + (f"; its last words: {words}" if words else "")
