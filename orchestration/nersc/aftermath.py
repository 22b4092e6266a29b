"""What became of a job that is not in the queue, found out over several looks and told once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from orchestration.config import REPORT_SECONDS
from orchestration.errors import Cancelled
from orchestration.jobs import JobSpec
from orchestration.ledger.service import Document, Progress, Running, Status
from orchestration.nersc.ending import Remains, stopped
from orchestration.nersc.folders import Folders
from orchestration.nersc.handle import Handle
from orchestration.nersc.memory import Memory, Patience
from orchestration.nersc.rows import Row
from orchestration.nersc.script import log_path
from orchestration.nersc.states import ENDINGS, Ending
from orchestration.nersc.submission import Submission

_DUPLICATE = "76:0"
"""Exit code of a second job of the same token, which did nothing: see `orchestration.science.running.report`."""

_UNWRITABLE = "0:53"
"""Exit code of a job whose log could not be opened: nothing of it was run."""

_PART = 0.02
"""How much longer a job may seem to last than it did, as a part of that, while its end is found out."""


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """Of the jobs of one site."""

    folders: Folders
    submission: Submission

    @property
    def memory(self) -> Memory:
        return self.folders.memory

    def status(self, request: JobSpec, job: Handle, row: Row | None) -> Status:
        """`row` is what squeue told at the end, or else what sacct tells now, which may be behind."""
        remains = Remains(
            title=request.name or PurePosixPath(request.executable).name,
            spec=request,
            site=self.folders.site.name,
            job=job.job,
            token=job.token,
            row=row,
            seen=self.memory.last_seen(str(job)),
            sent=self.memory.sent_at(job.token),
            log=log_path(self.folders.site, job.token),
        )
        report = self.folders.report(job.token)
        if (report or {}).get("reason") == "cancelled" or remains.ending is ENDINGS["CANCELLED"]:
            remains = replace(remains, given_up=self.folders.given_up(job.token))
        if report is not None:
            return self._reported(job, remains, report)
        if row is not None and row.exit_code == _DUPLICATE and self.submission.namesakes(job.token):
            return _not_yet("another job of the same name is doing it")
        if remains.ending is None:
            return self._unlisted(request, job, remains)
        return self._unreported(job, remains, remains.ending)

    def missed(self, request: JobSpec, job: Handle, row: Row | None) -> bool:
        """Whether it was looked for in vain for so long that it is lost. What sacct calls alive may be, to its end."""
        lasts = 0.0 if row is None else request.duration + REPORT_SECONDS
        return self.memory.waited("absent", str(job)) >= self._patience.unknown + lasts

    @property
    def _patience(self) -> Patience:
        return self.folders.patience

    def _reported(self, job: Handle, remains: Remains, report: Document) -> Status:
        waited = self.memory.waited("ended", str(job))
        if job.numbered and remains.ending is None and waited < self._accounted_within(report):
            return _not_yet("its report is here; what Slurm says of its end is not")
        return self._settled(job, remains.reported(report))

    def _accounted_within(self, report: Document) -> float:
        """Seconds. Why something was stopped only Slurm knows; of everything else the report tells more."""
        seconds = report.get("seconds")
        part = _PART * seconds if isinstance(seconds, int | float) else 0.0
        most = self._patience.unknown
        return most if stopped(report) else min(most, max(self._patience.accounting, part))

    def _unlisted(self, request: JobSpec, job: Handle, remains: Remains) -> Status:
        """Neither queued, nor over, nor reported: just submitted, or accounting is behind, or it is lost."""
        row = remains.row
        if not self.missed(request, job, row):
            state = f"sacct says {row.state}" if row is not None else "nor does sacct"
            return _not_yet(f"squeue does not list it, {state}; asked again")
        if not self._stopped(job):
            return _not_yet("it is thought lost, and is kept from turning up again")
        return self._settled(job, remains.lost(self.folders.left(job.token)))

    def _stopped(self, job: Handle) -> bool:
        """Whether a runner of which nobody knows has been told to stop, and had the time to do so and to report."""
        if not self.folders.give_up(job.token):
            return False
        if not self.memory.began("stopped", str(job)):
            for number in job.numbered:
                self.folders.calls.cancel(number)
        return self.memory.waited("stopped", str(job)) >= self._patience.report

    def _unreported(self, job: Handle, remains: Remains, ending: Ending) -> Status:
        """Where a node is cut off its program may go on: it is told to stop before anybody does its work again."""
        row, waited = remains.row, self.memory.waited("ended", str(job))
        if row is not None and row.began:
            told = ending.error is Cancelled or self.folders.give_up(job.token)
            if not told or (row.exit_code != _UNWRITABLE and waited < self._patience.report):
                return _not_yet("it is over; its report is not here yet")
        return self._settled(job, remains.unreported(ending, self.folders.left(job.token)))

    def _settled(self, job: Handle, status: Status) -> Status:
        self.memory.settled(job.token, str(job))
        return status


def _not_yet(note: str) -> Running:
    return Running(progress=Progress(note=note))
