"""What became of a job: told by its report, or, where there is none, by Slurm and by what Slurm wrote down of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.errors import JobLost, JobTimedOut, OperationFailed
from orchestration.jobs import JobSpec
from orchestration.ledger.service import Document, Failed, Json, Status, Succeeded
from orchestration.nersc.rows import Row
from orchestration.nersc.states import ENDINGS, Ending, exit_text
from orchestration.remote import Times, verdict


@dataclass(frozen=True, kw_only=True)
class Remains:
    """Of one job: `row` as Slurm tells it last, None if it does not; `log` is the path of what Slurm wrote."""

    title: str
    spec: JobSpec | None = None
    site: str
    job: str
    row: Row | None
    log: str

    @property
    def ending(self) -> Ending | None:
        """None while the job is not over, as far as Slurm says."""
        return None if self.row is None else ENDINGS.get(self.row.state)

    @property
    def where(self) -> str:
        return f"{self.site}, job {self.job}, log {self.log}"

    def reported(self, report: Mapping[str, Json]) -> Status:
        """By its report; Slurm explains why the runner or the program was stopped, which neither of them sees."""
        found = verdict(self.title, report, where=self.where, facts=self._facts(report), spec=self.spec)
        ending = self.ending
        if isinstance(found, Succeeded) or ending is None or not ending.overrides or not stopped(report, self.row):
            return found
        if isinstance(found, Failed) and isinstance(found.error, ending.error):
            return found
        return Failed(error=self._error(ending, ""), evidence=_evidence(found))

    def unreported(self, ending: Ending, log: str) -> Failed:
        """By Slurm alone: never success."""
        return Failed(error=self._error(ending, log), evidence={**self._facts({}), "log": log})

    def lost(self, log: str) -> Failed:
        error = JobLost(
            f"job {self.title} is known neither to squeue nor to sacct, and left no report{_last_line(log)}",
            where=self.where,
            next_step="read the log there, if there is one, then start the flow again",
        )
        return Failed(error=error, evidence={**self._facts({}), "log": log})

    def _error(self, ending: Ending, log: str) -> OperationFailed:
        row = self.row
        kind, what = ending.error, ending.what
        if row is not None and row.state == "DEADLINE" and row.began:
            kind, what = JobTimedOut, "was stopped at its deadline"
        by = f" by user {row.by}" if row is not None and row.by else ""
        code = exit_text(row.exit_code) if row is not None and row.state in ("FAILED", "COMPLETED") else ""
        said = f" with {code}" if code else ""
        return kind(f"job {self.title} {what}{by}{said}{_last_line(log)}", where=self.where, next_step=ending.next_step)

    def _facts(self, report: Mapping[str, Json]) -> Document:
        row = self.row
        if row is None:
            return {"job": self.job, **_times(Times(), report).document}
        return {
            "job": self.job,
            "state": row.state,
            "slurm_exit_code": row.exit_code,
            "nodes": row.nodes,
            **_times(row.times, report).document,
        }


def stopped(report: Mapping[str, Json], row: Row | None = None) -> bool:
    """Whether the report tells of an end by force, whose reason only Slurm knows."""
    code = report.get("code")
    killed = isinstance(code, int) and code < 0
    return report.get("reason") == "terminated" or killed or (row is not None and row.state == "OUT_OF_MEMORY")


def _times(times: Times, report: Mapping[str, Json]) -> Times:
    """Slurm's; where it has no end yet, those of the runner for the run itself."""
    began, seconds = report.get("started_at"), report.get("seconds")
    if times.ended is not None or not isinstance(began, int | float) or not isinstance(seconds, int | float):
        return times
    if times.started is not None:
        return Times(submitted=times.submitted, started=times.started, ended=times.started + seconds)
    return Times(started=began, ended=began + seconds)


def _evidence(status: Status) -> Document:
    return status.evidence if isinstance(status, Succeeded | Failed) else {}


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
