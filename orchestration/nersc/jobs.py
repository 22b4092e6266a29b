"""Jobs of NERSC's Slurm, each run exactly once, by the Superfacility API."""

from __future__ import annotations

import functools
import json
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from pathlib import PurePosixPath

from orchestration.config import Credentials, NerscSite
from orchestration.errors import ConfigError, JobFailed, ServiceUnavailable
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer, Document, Progress, Running, Status, Succeeded
from orchestration.nersc.calls import Calls
from orchestration.nersc.client import Clients
from orchestration.nersc.ending import Remains, stopped
from orchestration.nersc.memory import Memory, Patience
from orchestration.nersc.rows import Row
from orchestration.nersc.script import BatchScript, log_path, outside, start_within
from orchestration.nersc.states import note
from orchestration.nersc.status import NerscStatus
from orchestration.nersc.submission import UNKNOWN_JOB, Submission
from orchestration.remote import CANCEL_MARKER, REPORT, Launch

_TAIL = 4096
"""Bytes of the end of Slurm's log that go into the evidence of a failure."""

_DUPLICATE = "76:0"
"""Exit code of a second job of the same token, which did nothing: see `orchestration.science.running.report`."""

_BY_NUMBER = 200
"""More jobs than this are asked about by their user: a URL has not room for more numbers."""

_CONFIRM_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class _Handle:
    """Of a job: its number at Slurm, `UNKNOWN_JOB` if that is not known, and its token."""

    job: str
    token: str

    @classmethod
    def parse(cls, text: str) -> _Handle:
        job, _, token = text.partition(" ")
        return cls(job=job, token=token)

    def __str__(self) -> str:
        return f"{self.job} {self.token}"

    @property
    def numbered(self) -> tuple[str, ...]:
        return () if self.job == UNKNOWN_JOB else (self.job,)


@dataclass(frozen=True)
class NerscJobs:
    """Safe for threads. Nothing is read or asked before the first call; `clock` is that of `time.time`.

    A program that wants several processes or nodes starts them itself, with srun: Slurm starts the runner, once.
    """

    site: NerscSite
    credentials: Credentials
    _: KW_ONLY
    clock: Callable[[], float] = time.time
    patience: Patience = field(default_factory=Patience)
    _memory: Memory = field(default_factory=Memory, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"nersc.jobs@{self.site.name}"

    def reserve(self, key: str) -> str:
        self._memory.unsent(key)
        return key

    def find(self, request: JobSpec, token: str) -> str | None:
        with self._explaining():
            number = self._submission.find(token)
        return None if number is None else str(_Handle(job=number, token=token))

    def submit(self, request: JobSpec, token: str) -> str:
        """Raises JobFailed for what Slurm refuses, ConfigError for what no job of this site can be submitted with."""
        start_by = self.clock() + start_within(self.site, request)
        launch = Launch(site=self.site, spec=request, token=token, start_by=start_by)
        script = BatchScript(launch=launch, site=self.site).text
        if not self._memory.is_unsent(token):
            known = self.find(request, token)
            if known is not None:
                return known
        with self._explaining():
            return str(_Handle(job=self._submission.send(script, token), token=token))

    def poll(self, request: JobSpec, handle: str) -> Status:
        """One question to squeue while the job waits and runs; sacct and the report only once it has left."""
        job = _Handle.parse(handle)
        with self._explaining():
            queued = _only(self._calls.queue(jobs=job.numbered), job) if job.numbered else None
            if queued is not None and not queued.over:
                self._memory.seen(handle)
                return _running(queued)
            row = _only(self._calls.accounting(jobs=job.numbered), job) if job.numbered else None
            return self._after(request, job, queued if row is None or (queued and not row.over) else row)

    def poll_many(self, items: Sequence[tuple[JobSpec, str]]) -> Mapping[str, Status]:
        """One question to squeue about all; one to sacct only about those that it never listed."""
        handles = [_Handle.parse(handle) for _, handle in items]
        with self._explaining():
            listed = self._listed([handle.job for handle in handles if handle.numbered])
            found: dict[str, Status] = {}
            absent: list[_Handle] = []
            for handle in handles:
                row = listed.get(handle.job)
                if row is not None and not row.over:
                    self._memory.seen(str(handle))
                    found[str(handle)] = _running(row)
                elif row is not None or not handle.numbered or self._memory.was_seen(str(handle)):
                    found[str(handle)] = _left(handle)
                else:
                    absent.append(handle)
            return found | self._never_listed(absent)

    def cancel(self, handle: str) -> CancelAnswer:
        """All jobs of its token. Confirmed once Slurm lists none of them as queued, running or ending."""
        job = _Handle.parse(handle)
        return self._stop(job, lambda: self._submission.namesakes(job.token))

    def clear(self, handle: str) -> None:
        """Have what a job has left removed that is over: its folder, and what Slurm wrote beside it."""
        if token := _Handle.parse(handle).token:
            folder = posixpath.join(outside(self.site, self.site.job_folder), token)
            with self._explaining():
                self._calls.run(["rm", "-rf", "--", folder, log_path(self.site, token)])

    def mine(self) -> list[Row]:
        """All jobs of this service's user that are in the queue or run; `token_of` their names tells which are ours."""
        with self._explaining():
            return [row for row in self._calls.queue(user=self._submission.user()) if not row.over]

    def cancel_number(self, number: str) -> CancelAnswer:
        """Of any job of this service's user."""
        return self._stop(_Handle(job=number, token=""), lambda: [row for row in self.mine() if row.id == number])

    def _stop(self, job: _Handle, alive: Callable[[], list[Row]]) -> CancelAnswer:
        with self._explaining():
            numbers = {row.id for row in alive()}
            answer = CancelAnswer.UNKNOWN if numbers else self._cancelled(job)
            if answer is not CancelAnswer.UNKNOWN:
                return answer
            try:
                for number in numbers or job.numbered:
                    self._calls.cancel(number)
            except (ConfigError, JobFailed):
                return CancelAnswer.REFUSED
            return self._confirmed(job, alive)

    def _confirmed(self, job: _Handle, alive: Callable[[], list[Row]]) -> CancelAnswer:
        until = time.monotonic() + self.patience.cancel
        while True:
            time.sleep(_CONFIRM_SECONDS)
            answer = CancelAnswer.UNKNOWN if alive() else self._cancelled(job)
            if answer is not CancelAnswer.UNKNOWN or time.monotonic() > until:
                return answer

    def _cancelled(self, job: _Handle) -> CancelAnswer:
        """How a job that is not in the queue any more ended; accounting may be behind."""
        row = _only(self._calls.accounting(jobs=job.numbered), job) if job.numbered else None
        if row is not None and row.over:
            return CancelAnswer.CANCELLED if row.state == "CANCELLED" else CancelAnswer.ALREADY_FINISHED
        report = self._report(job.token) if job.token else None
        if report is None:
            return CancelAnswer.UNKNOWN
        by_force = report.get("reason") in ("cancelled", "terminated")
        return CancelAnswer.CANCELLED if by_force else CancelAnswer.ALREADY_FINISHED

    def _after(self, request: JobSpec, job: _Handle, row: Row | None) -> Status:
        """Of a job that is not in the queue."""
        title = request.name or PurePosixPath(request.executable).name
        log = log_path(self.site, job.token)
        remains = Remains(title=title, spec=request, site=self.site.name, job=job.job, row=row, log=log)
        report = self._report(job.token)
        waited = self._memory.waited("ended", str(job))
        if report is not None:
            if remains.ending is None and stopped(report) and waited < self.patience.unknown:
                return Running(progress=Progress(note="it was stopped; the facility does not say yet why"))
            return self._settled(job, remains.reported(report))
        if row is not None and row.exit_code == _DUPLICATE and self._submission.namesakes(job.token):
            return Running(progress=Progress(note="another job of the same name is doing it"))
        if remains.ending is None:
            return self._unlisted(job, remains, row)
        if self._may_report(row) and waited < self.patience.report:
            return Running(progress=Progress(note="it is over; its report is not here yet"))
        return self._settled(job, remains.unreported(remains.ending, self._log(remains.log)))

    def _unlisted(self, job: _Handle, remains: Remains, row: Row | None) -> Status:
        """Neither queued, nor over, nor reported: just submitted, or accounting is behind, or it is lost."""
        if self._memory.waited("absent", str(job)) < self.patience.unknown:
            state = f"sacct says {row.state}" if row is not None else "nor does sacct"
            return Running(progress=Progress(note=f"squeue does not list it, {state}; asked again"))
        if job.token and not self._shut(job.token):
            return Running(progress=Progress(note="it is thought lost, and is kept from turning up again"))
        return self._settled(job, remains.lost(self._log(remains.log)))

    def _shut(self, token: str) -> bool:
        """Whether its runner stops at once, should the job turn up after all: it may be submitted again meanwhile."""
        marker = posixpath.join(outside(self.site, self.site.job_folder), token, CANCEL_MARKER)
        if self._calls.is_directory(marker):
            return True
        self._calls.run(["mkdir", "-p", "--", marker])
        return False

    @staticmethod
    def _may_report(row: Row | None) -> bool:
        """Not one that never began, and not one whose files cannot be written."""
        return row is not None and row.began and row.exit_code != "0:53"

    def _settled(self, job: _Handle, status: Status) -> Status:
        self._memory.settled(job.token, str(job))
        return status

    def _report(self, token: str) -> Document | None:
        """None also while only a part of it can be read."""
        content = self._calls.download(posixpath.join(outside(self.site, self.site.job_folder), token, REPORT))
        try:
            found = json.loads(content or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def _log(self, path: str) -> str:
        try:
            content = self._calls.download(path) or b""
        except ServiceUnavailable as error:
            return f"the log cannot be read: {error.what}"
        return content[-_TAIL:].decode("utf-8", errors="replace")

    def _listed(self, numbers: list[str]) -> dict[str, Row]:
        if not numbers:
            return {}
        many = len(numbers) > _BY_NUMBER
        rows = self._calls.queue(user=self._submission.user()) if many else self._calls.queue(jobs=numbers)
        return {row.id: row for row in rows}

    def _never_listed(self, absent: list[_Handle]) -> dict[str, Status]:
        """Of these, only those that are over, or that were asked for in vain for too long."""
        over: set[str] = set()
        for first in range(0, len(absent), _BY_NUMBER):
            numbers = [handle.job for handle in absent[first : first + _BY_NUMBER]]
            over |= {row.id for row in self._calls.accounting(jobs=numbers) if row.over}
        patience = self.patience.unknown
        lost = {each.job for each in absent if self._memory.waited("absent", str(each)) > patience}
        return {str(each): _left(each) for each in absent if each.job in over | lost}

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """What the status page says is what helps somebody who waits."""
        try:
            yield
        except ServiceUnavailable as doubt:
            said = self.status.trouble()
            if not said:
                raise
            raise ServiceUnavailable(
                doubt.what, where=doubt.where, next_step=said, retry_after=doubt.retry_after
            ) from doubt

    @functools.cached_property
    def status(self) -> NerscStatus:
        return NerscStatus(site=self.site, credentials=self.credentials, keep=self.patience.status)

    @functools.cached_property
    def _calls(self) -> Calls:
        return Calls(clients=Clients(site=self.site, credentials=self.credentials), machine=self.site.machine)

    @functools.cached_property
    def _submission(self) -> Submission:
        return Submission(
            site=self.site, calls=self._calls, status=self.status, memory=self._memory, patience=self.patience
        )


def _only(rows: list[Row], job: _Handle) -> Row | None:
    return next((row for row in rows if row.id == job.job), None)


def _running(row: Row) -> Running:
    return Running(progress=Progress(note=note(row.state, row.reason)), queued=row.state == "PENDING")


def _left(job: _Handle) -> Succeeded:
    """It is over, or needs to be looked at; not how it ended: who waits for it polls."""
    return Succeeded(evidence={"job": job.job, "note": "it left the queue"})
