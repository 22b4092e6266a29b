"""Jobs of NERSC's Slurm, each run exactly once, by the Superfacility API."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field

from orchestration.config import Credentials, NerscSite
from orchestration.errors import ConfigError, JobFailed, ServiceUnavailable
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer, Progress, Running, Status, Succeeded
from orchestration.nersc.aftermath import Aftermath
from orchestration.nersc.calls import Calls
from orchestration.nersc.client import Clients
from orchestration.nersc.folders import Folders
from orchestration.nersc.handle import Handle
from orchestration.nersc.memory import Memory, Patience
from orchestration.nersc.rows import Row
from orchestration.nersc.script import BatchScript, start_within, token_of
from orchestration.nersc.states import note
from orchestration.nersc.status import NerscStatus
from orchestration.nersc.submission import Submission
from orchestration.policy import Permitted, Place, opened
from orchestration.remote import Launch

_BY_NUMBER = 200
"""More jobs than this are asked about by their user: a URL has not room for more numbers."""

_CONFIRM_SECONDS = 0.2


@dataclass(frozen=True)
class NerscJobs:
    """Safe for threads. Nothing is read or asked before the first call; `clock` is that of `time.time`.

    Slurm starts the runner, once, and the runner the program, once: on the first node, with room for as many processes
    as were asked for, which the program starts itself, with srun. PSI/J calls that the launcher ``single``.
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

    @property
    def place(self) -> Place:
        return self.site.place

    @property
    def sessions(self) -> int | None:
        return self.site.sessions

    def reserve(self, key: str) -> str:
        """Asks whether a job of the same key is alive already: then it is the one that is found and waited for."""
        with self._explaining():
            return self._submission.reserve(key)

    def find(self, request: JobSpec, token: str) -> str | None:
        with self._explaining():
            number = self._submission.find(token)
        return None if number is None else str(Handle(job=number, token=token))

    def submit(self, permitted: Permitted[JobSpec], token: str) -> str:
        """Raises JobFailed for what Slurm refuses, ConfigError for what no job of this site can be submitted with."""
        request = opened(permitted, JobSpec, at=self.place)
        start_by = self.clock() + start_within(self.site, request)
        launch = Launch(site=self.site, spec=request, token=token, start_by=start_by)
        script = BatchScript(launch=launch, site=self.site).text
        if not self._memory.is_unsent(token):
            known = self.find(request, token)
            if known is not None:
                return known
        with self._explaining():
            return str(Handle(job=self._submission.send(script, token), token=token))

    def poll(self, request: JobSpec, handle: str) -> Status:
        """One question to squeue while the job waits and runs; sacct and the report only once it has left."""
        job = Handle.parse(handle)
        with self._explaining():
            queued = _only(self._calls.queue(jobs=job.numbered), job) if job.numbered else None
            if queued is not None and not queued.over:
                return self._running(job, queued)
            row = _only(self._calls.accounting(jobs=job.numbered), job) if job.numbered else None
            return self._aftermath.status(request, job, queued if row is None or (queued and not row.over) else row)

    def poll_many(self, items: Sequence[tuple[JobSpec, str]]) -> Mapping[str, Status]:
        """One question to squeue about all; one to sacct only about those that it never listed."""
        jobs = [(request, Handle.parse(handle)) for request, handle in items]
        with self._explaining():
            listed = self._listed([job.job for _, job in jobs if job.numbered])
            found: dict[str, Status] = {}
            absent: list[tuple[JobSpec, Handle]] = []
            for request, job in jobs:
                row = listed.get(job.job)
                if row is not None and not row.over:
                    found[str(job)] = self._running(job, row)
                elif row is not None or not job.numbered or self._memory.was_seen(str(job)):
                    found[str(job)] = _left(job)
                else:
                    absent.append((request, job))
            return found | self._never_listed(absent)

    def cancel(self, handle: str) -> CancelAnswer:
        """All jobs of its token. Confirmed once Slurm lists none of them as queued, running or ending."""
        job = Handle.parse(handle)
        return self._stop(job, lambda: self._submission.namesakes(job.token))

    def clear(self, tokens: Sequence[str], *, folders: Sequence[str] = (), files: Sequence[str] = ()) -> None:
        """Remove the folders of jobs that are over, and what Slurm wrote beside them, by one command."""
        with self._explaining():
            self._folders.clear(tokens, [*folders, *files])

    def mine(self) -> list[Row]:
        """All jobs of this service's user that are in the queue or run; `token_of` their names tells which are ours."""
        with self._explaining():
            return [row for row in self._calls.queue(user=self._submission.user()) if not row.over]

    def alive(self) -> Mapping[str, str]:
        """The token of each of those of `mine` that has one, by its handle."""
        tokens = {row.id: token_of(row.name) for row in self.mine()}
        return {str(Handle(job=job, token=token)): token for job, token in tokens.items() if token is not None}

    def cancel_number(self, number: str) -> CancelAnswer:
        """Of any job of this service's user."""
        return self._stop(Handle(job=number, token=""), lambda: [row for row in self.mine() if row.id == number])

    def _stop(self, job: Handle, alive: Callable[[], list[Row]]) -> CancelAnswer:
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

    def _confirmed(self, job: Handle, alive: Callable[[], list[Row]]) -> CancelAnswer:
        until = time.monotonic() + self.patience.cancel
        while True:
            time.sleep(_CONFIRM_SECONDS)
            answer = CancelAnswer.UNKNOWN if alive() else self._cancelled(job)
            if answer is not CancelAnswer.UNKNOWN or time.monotonic() > until:
                return answer

    def _cancelled(self, job: Handle) -> CancelAnswer:
        """How a job that is not in the queue any more ended; accounting may be behind."""
        row = _only(self._calls.accounting(jobs=job.numbered), job) if job.numbered else None
        if row is not None and row.over:
            return CancelAnswer.CANCELLED if row.state == "CANCELLED" else CancelAnswer.ALREADY_FINISHED
        report = self._folders.report(job.token) if job.token else None
        if report is None:
            return CancelAnswer.UNKNOWN
        by_force = report.get("reason") in ("cancelled", "terminated")
        return CancelAnswer.CANCELLED if by_force else CancelAnswer.ALREADY_FINISHED

    def _listed(self, numbers: list[str]) -> dict[str, Row]:
        if not numbers:
            return {}
        many = len(numbers) > _BY_NUMBER
        rows = self._calls.queue(user=self._submission.user()) if many else self._calls.queue(jobs=numbers)
        return {row.id: row for row in rows}

    def _never_listed(self, absent: list[tuple[JobSpec, Handle]]) -> dict[str, Status]:
        """Of these, only those that are over, or that were asked for in vain for too long."""
        known: dict[str, Row] = {}
        for first in range(0, len(absent), _BY_NUMBER):
            numbers = [job.job for _, job in absent[first : first + _BY_NUMBER]]
            known |= {row.id: row for row in self._calls.accounting(jobs=numbers)}
        return {str(job): _left(job) for request, job in absent if self._gone(request, job, known.get(job.job))}

    def _gone(self, request: JobSpec, job: Handle, row: Row | None) -> bool:
        return (row is not None and row.over) or self._aftermath.missed(request, job, row)

    def _running(self, job: Handle, row: Row) -> Running:
        self._memory.seen(str(job), row)
        return Running(progress=Progress(note=note(row.state, row.reason)), queued=row.state == "PENDING")

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
    def _folders(self) -> Folders:
        return Folders(site=self.site, calls=self._calls, memory=self._memory, patience=self.patience)

    @functools.cached_property
    def _submission(self) -> Submission:
        return Submission(folders=self._folders, status=self.status)

    @functools.cached_property
    def _aftermath(self) -> Aftermath:
        return Aftermath(folders=self._folders, submission=self._submission)


def _only(rows: list[Row], job: Handle) -> Row | None:
    return next((row for row in rows if row.id == job.job), None)


def _left(job: Handle) -> Succeeded:
    """It is over, or needs to be looked at; not how it ended: who waits for it polls."""
    return Succeeded(evidence={"job": job.job, "note": "it left the queue"})
