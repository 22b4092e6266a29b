"""Jobs at a facility by the IRI API, each run exactly once.

The token is the job's name, and in the second version of the API its Idempotency-Key as well. Handles are
``IDENTIFIER@TOKEN``: the identifier is the facility's, the token leads to the report in the job's folder.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import PurePosixPath

from orchestration.config import IriSite
from orchestration.errors import InvalidInput, JobLost, ServiceUnavailable
from orchestration.iri import request as asking
from orchestration.iri.calls import Calls
from orchestration.iri.client import IriClient
from orchestration.iri.ending import Remains
from orchestration.iri.errors import Refused, Unserved
from orchestration.iri.files import Files, StillReading
from orchestration.iri.memory import Memory
from orchestration.iri.records import IriJob, JobState
from orchestration.iri.status import IriStatus
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer, Failed, Progress, Running, Status, Succeeded

_NOTES = {
    JobState.NEW: "accepted",
    JobState.QUEUED: "waiting in the queue",
    JobState.HELD: "held in the queue",
    JobState.ACTIVE: "running",
}
_DUPLICATE = 76
"""Exit code of a second job of the same token, which did nothing: see `orchestration.science.running.report`."""

_ONE_BY_ONE = 50
"""So many of the jobs that a list leaves out are asked about one by one, at a time."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds. For `unknown` a job may not be shown, just submitted or any time later; for `report` a job may be over
    without a report that can be read.
    """

    unknown: float = 30.0
    report: float = 60.0


@dataclass(frozen=True, kw_only=True)
class _Handle:
    job: str
    token: str

    @classmethod
    def parse(cls, text: str) -> _Handle:
        job, _, token = text.rpartition("@")
        if not job:
            raise InvalidInput(f"{text!r} is no handle of an IRI job")
        return cls(job=job, token=token)

    def __str__(self) -> str:
        return f"{self.job}@{self.token}"


@dataclass(frozen=True)
class IriJobs:
    """Safe for threads. Nothing is read or asked before the first call."""

    site: IriSite
    patience: Patience = field(default_factory=Patience, kw_only=True)
    _memory: Memory = field(default_factory=Memory, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"iri.jobs@{self.site.name}"

    def reserve(self, key: str) -> str:
        token = asking.token_of(key)
        self._memory.begin("unsent", token)
        return token

    def find(self, request: JobSpec, token: str) -> str | None:
        """By the job's name. Where a submission made twice would be two jobs, nothing found means nothing until the
        facility has had time to show a job that it accepted.
        """
        if self._memory.began("unsent", token):
            return None
        try:
            found = self._calls.named(token)
        except Refused as refused:
            raise refused.doubt() from refused
        if found:
            return str(_Handle(job=_foremost(found).id, token=token))
        doubtful = not self._calls.idempotent or self._memory.began("doubt", token)
        if doubtful and self._memory.waited("doubt", token) < self.patience.unknown:
            raise ServiceUnavailable(
                "a job that was perhaps submitted is not shown yet",
                where=self.client.where,
                retry_after=self.patience.unknown / 5,
            )
        return None

    def submit(self, request: JobSpec, token: str) -> str:
        """Raises JobFailed for what the facility refuses."""
        body = asking.document(self.site, asking.launch_of(self.site, request, token))
        self.client.resource(self.site.resource)  # so that nothing but the submission is in doubt below
        unsent = self._memory.over("unsent", token)
        try:
            job = self._calls.submit(body, token)
        except Unserved as doubt:
            if unsent and doubt.status == HTTPStatus.TOO_MANY_REQUESTS:
                self._memory.begin("unsent", token)
            elif doubt.status == HTTPStatus.INTERNAL_SERVER_ERROR or not self._calls.idempotent:
                # Where a facility failed at it, it may have forgotten the key and not the job.
                self._memory.begin("doubt", token)
            raise
        except Refused as refused:
            known = self._refused(request, token, refused)
            if known is not None:
                return known
            raise refused.translated("the facility refuses the job") from refused
        return str(_Handle(job=job.id, token=token))

    def _refused(self, request: JobSpec, token: str, refused: Refused) -> str | None:
        """The handle of the job that there is under this key already; None for a plain no.

        Raises:
            ServiceUnavailable: if there must be such a job and it is not shown.
        """
        if refused.status == 409:
            raise refused.doubt() from refused
        if refused.status != 422 or not refused.about_key:
            return None
        known = self.find(request, token)
        if known is None:
            raise refused.doubt() from refused
        return known

    def poll(self, request: JobSpec, handle: str) -> Status:
        job = _Handle.parse(handle)
        return self._standing(request, job, self._job(job))

    def poll_many(self, items: Sequence[tuple[JobSpec, str]]) -> Mapping[str, Status]:
        """One list of all; one by one only those that it leaves out, or where a facility has no such list."""
        handles = [_Handle.parse(handle) for _, handle in items]
        if not handles:
            return {}
        listed = self._calls.jobs([each.job for each in handles])
        rows = {row.id: row for row in listed or ()}
        found = {str(each): _told(rows[each.job]) for each in handles if each.job in rows}
        absent = [each for each in handles if each.job not in rows]
        for each in absent if listed is None else absent[:_ONE_BY_ONE]:
            row = self._job(each)
            if row is not None:
                found[str(each)] = _told(row)
            elif self._memory.waited("absent", str(each)) > self.patience.unknown:
                found[str(each)] = Failed(error=JobLost("the facility does not know it any more", where=each.job))
        return found

    def cancel(self, handle: str) -> CancelAnswer:
        """All jobs of its token, where there may be more than one. Confirmed once the facility says so itself."""
        job = _Handle.parse(handle)
        refused = [each for each in self._namesakes(job) if not self._cancelled(each)]
        now = self._job(job)
        if now is None or not (now.state.over or refused):
            return CancelAnswer.UNKNOWN
        if not now.state.over:
            return CancelAnswer.REFUSED
        return CancelAnswer.CANCELLED if now.state is JobState.CANCELED else CancelAnswer.ALREADY_FINISHED

    def _namesakes(self, job: _Handle) -> Iterable[str]:
        """The job itself, and what else of its name is not over."""
        if self._calls.idempotent:
            return (job.job,)
        try:
            others = {each.id for each in self._calls.named(job.token) if not each.state.over}
        except Refused as refused:
            raise refused.doubt() from refused
        return sorted(others | {job.job})

    def _cancelled(self, id_: str) -> bool:
        """False if the facility refuses it: the job may be over, or not ours."""
        try:
            self._calls.cancel(id_)
        except Refused:
            return False
        return True

    def _job(self, job: _Handle) -> IriJob | None:
        try:
            return self._calls.job(job.job)
        except Refused as refused:
            raise refused.translated("the facility does not tell how the job is") from refused

    def _standing(self, request: JobSpec, job: _Handle, now: IriJob | None) -> Status:
        launch = asking.launch_of(self.site, request, job.token)
        title = request.name or PurePosixPath(request.executable).name
        if now is not None and not now.state.over:
            self._memory.settled(str(job))
            return _running(now)
        remains = Remains(title=title, site=self.site.name, token=job.token, id=job.job, job=now)
        try:
            content = self._files.read(launch.report)
        except StillReading:
            return Running(progress=Progress(note="it is over; its report is being read"))
        found = remains.reported(content)
        if found is not None:
            return self._settled(job, found)
        if now is None:
            if self._memory.waited("absent", str(job)) < self.patience.unknown:
                return Running(progress=Progress(note="the facility does not show it; asked again"))
            return self._settled(job, remains.lost())
        if self._memory.waited("ended", str(job)) < self.patience.report and remains.may_report:
            return Running(progress=Progress(note="it is over; its report is not here yet"))
        if now.exit_code == _DUPLICATE and self._another(job):
            return Running(progress=Progress(note="another job of the same name is doing it"))
        return self._settled(job, remains.unreported())

    def _another(self, job: _Handle) -> bool:
        try:
            return any(not each.state.over for each in self._calls.named(job.token))
        except Refused as refused:
            raise refused.doubt() from refused

    def _settled(self, job: _Handle, status: Status) -> Status:
        self._memory.settled(job.token, str(job))
        return status

    def close(self) -> None:
        self.client.close()

    @functools.cached_property
    def status(self) -> IriStatus:
        return IriStatus(client=self.client)

    @functools.cached_property
    def client(self) -> IriClient:
        return IriClient.of(self.site)

    @functools.cached_property
    def _calls(self) -> Calls:
        return Calls(client=self.client)

    @functools.cached_property
    def _files(self) -> Files:
        return Files(client=self.client, resource=self.site.storage or self.site.resource)


def _foremost(found: Sequence[IriJob]) -> IriJob:
    """Of several jobs of one token the one that did, or does, its work: a second one that began ends at once."""
    worked = [each for each in found if each.exit_code != _DUPLICATE]
    return next((each for each in worked if each.state is not JobState.CANCELED), (worked or found)[0])


def _running(job: IriJob) -> Running:
    note = _NOTES.get(job.state, f"in state {job.said}" if job.said else "its state is not told")
    return Running(
        progress=Progress(note=f"{note}: {job.message}" if job.message and job.message != job.said else note),
        queued=job.state in (JobState.NEW, JobState.QUEUED, JobState.HELD),
    )


def _told(job: IriJob) -> Status:
    """As a list tells it: that it is over says nothing of its outputs, and who waits for it looks at them."""
    return Succeeded(evidence={"job": job.id, "state": job.said}) if job.state.over else _running(job)
