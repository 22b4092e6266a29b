"""Jobs at a facility by the IRI API, each run exactly once.

The token is the job's name, and in the second version of the API its Idempotency-Key as well. Handles are
``IDENTIFIER@TOKEN``: the identifier is the facility's, the token leads to the report in the job's folder.
"""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import PurePosixPath

from orchestration.config import IriSite
from orchestration.errors import (
    InvalidInput,
    JobLost,
    JobNotStarted,
    JobPreempted,
    NodeFailed,
    ServiceUnavailable,
)
from orchestration.iri.calls import Calls
from orchestration.iri.client import IriClient
from orchestration.iri.ending import Remains
from orchestration.iri.errors import Refused, Unserved
from orchestration.iri.files import Files, StillReading
from orchestration.iri.folder import JobFolder
from orchestration.iri.memory import Memory
from orchestration.iri.records import IriJob, JobState
from orchestration.iri.status import IriStatus
from orchestration.iri.submission import DUPLICATE, Submission
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer, Failed, Progress, Running, Status, Succeeded
from orchestration.policy import Permitted, Place, opened
from orchestration.remote import folder_name, own_path

_NOTES = {
    JobState.NEW: "accepted",
    JobState.QUEUED: "waiting in the queue",
    JobState.HELD: "held in the queue",
    JobState.ACTIVE: "running",
}
_DONE_AGAIN = (JobLost, NodeFailed, JobPreempted, JobNotStarted)
"""Endings that are nobody's fault: the job is submitted again, or given to another site."""

_ONE_BY_ONE = 50
"""So many of the jobs that a list leaves out are asked about one by one, at a time."""

_LISTLESS_SECONDS = 600.0
"""So long a list that does not come is not asked for again."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds. For `settle` a job that was submitted may not be shown (None: as long as its site says), for `unknown`
    any other time. For `report` a job may be over, or have been told to stop, without a report: longer than its runner
    takes to look for a marker, to let its program end, and to write.
    """

    settle: float | None = None
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

    @property
    def place(self) -> Place:
        return self.site.place

    def reserve(self, key: str) -> str:
        return self._submission.reserve(key)

    def find(self, request: JobSpec, token: str) -> str | None:
        id_ = self._submission.find(token)
        return None if id_ is None else str(_Handle(job=id_, token=token))

    def find_by_sending(self, permitted: Permitted[JobSpec], token: str) -> str | None:
        id_ = self._submission.by_key(opened(permitted, JobSpec, at=self.place), token)
        return None if id_ is None else str(_Handle(job=id_, token=token))

    def submit(self, permitted: Permitted[JobSpec], token: str) -> str:
        """Raises JobFailed for what the facility refuses."""
        request = opened(permitted, JobSpec, at=self.place)
        return str(_Handle(job=self._submission.submit(request, token), token=token))

    def poll(self, request: JobSpec, handle: str) -> Status:
        job = _Handle.parse(handle)
        return self._standing(request, job, self._job(job))

    def poll_many(self, items: Sequence[tuple[JobSpec, str]]) -> Mapping[str, Status]:
        """One list of all; one by one only those that it leaves out, or where a facility has no such list."""
        handles = [_Handle.parse(handle) for _, handle in items]
        if not handles:
            return {}
        listed = self._listed(handles)
        found = {str(each): _told(listed[each.job]) for each in handles if each.job in listed}
        # Those first that were longest not asked about.
        absent = sorted((str(each) for each in handles if each.job not in listed), key=self._memory.asked)
        for handle in absent[:_ONE_BY_ONE]:
            self._memory.begin("asked", handle)
            row = self._job(_Handle.parse(handle))
            if row is not None:
                found[handle] = _told(row)
            elif self._memory.waited("absent", handle) > self.patience.unknown:
                found[handle] = Failed(error=JobLost("the facility does not know it any more", where=handle))
        return found

    def _listed(self, handles: Sequence[_Handle]) -> Mapping[str, IriJob]:
        """Empty where there is no list, or none that comes: some facilities take too long over theirs."""
        if self._memory.began("listless", "") and self._memory.waited("listless", "") < _LISTLESS_SECONDS:
            return {}
        try:
            return {row.id: row for row in self._calls.jobs([each.job for each in handles])}
        except Unserved:
            self._job(handles[0])  # if this is not answered either, it is not the list
        except Refused:
            pass  # a condition that this facility does not have
        self._memory.begin("listless", "")
        return {}

    def cancel(self, handle: str) -> CancelAnswer:
        """All jobs of its token, of which there may be more than one. Confirmed once the facility says so itself."""
        job = _Handle.parse(handle)
        accepted = self._cancelled(job.job)
        alone = self._stop_others(job)
        now = self._job(job)
        if now is None:
            return CancelAnswer.UNKNOWN
        if not now.state.over:
            return CancelAnswer.UNKNOWN if accepted else CancelAnswer.REFUSED
        if not alone:
            return CancelAnswer.UNKNOWN
        return CancelAnswer.CANCELLED if now.state is JobState.CANCELED else CancelAnswer.ALREADY_FINISHED

    def _stop_others(self, job: _Handle) -> bool:
        """What else there is of its token must not begin now: a marker in the folder of them all keeps it from that.

        False while the marker is not there yet, or any of them is still listed.
        """
        try:
            self._folder(job.token).shut()
        except StillReading:
            return False
        try:
            others = [each for each in self._calls.named(job.token) if not each.state.over and each.id != job.job]
        except (ServiceUnavailable, Refused):
            return True  # they cannot be listed; the marker holds them
        for each in others:
            self._cancelled(each.id)
        return not others

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
            if refused.status == HTTPStatus.FORBIDDEN:
                raise refused.translated("the facility does not tell how the job is") from refused
            raise refused.doubt() from refused  # of the question, and nothing about the job

    def _standing(self, request: JobSpec, job: _Handle, now: IriJob | None) -> Status:
        if now is not None and not now.state.over:
            self._memory.settled(str(job))
            return _running(now)
        title = request.name or PurePosixPath(request.executable).name
        remains = Remains(title=title, spec=request, site=self.site.name, token=job.token, id=job.job, job=now)
        folder = self._folder(job.token)
        try:
            found = remains.reported(folder.report())
            if found is None:
                return self._unreported(job, remains, folder)
            if remains.thought_lost(found) and folder.given_up():
                found = remains.given_up()
            return self._settled(job, found)
        except StillReading:
            return Running(progress=Progress(note="it is over; its report is being read"))

    def _unreported(self, job: _Handle, remains: Remains, folder: JobFolder) -> Status:
        """There is no report of it, for certain; there may be one soon."""
        now = remains.job
        if now is None and self._memory.waited("absent", str(job)) < self.patience.unknown:
            return Running(progress=Progress(note="the facility does not show it; asked again"))
        if remains.may_report and self._memory.waited("ended", str(job)) < self.patience.report:
            return Running(progress=Progress(note="it is over; its report is not here yet"))
        if now is not None and now.exit_code == DUPLICATE and self._another(job):
            return Running(progress=Progress(note="another job of the same name is doing it"))
        found = remains.unreported()
        if isinstance(found.error, _DONE_AGAIN) and not self._stopped(job, folder):
            return Running(progress=Progress(note="it is thought lost, and is kept from going on"))
        return self._settled(job, found)

    def _stopped(self, job: _Handle, folder: JobFolder) -> bool:
        """Whether it is certain that it does nothing any more, so that it may be done again, here or elsewhere.

        One that had begun sees the marker, and reports. If no report comes, its runner had been killed.
        """
        folder.give_up()
        return not folder.begun() or self._memory.waited("stopped", str(job)) > self.patience.report

    def _another(self, job: _Handle) -> bool:
        try:
            return any(not each.state.over for each in self._calls.named(job.token))
        except Refused as refused:
            raise refused.doubt() from refused

    def _settled(self, job: _Handle, status: Status) -> Status:
        self._memory.settled(job.token, str(job))
        return status

    def clear(self, tokens: Sequence[str], *, folders: Sequence[str] = (), files: Sequence[str] = ()) -> None:
        """Remove the folders of jobs that are over, and what their scheduler wrote beside them."""
        for path in [own_path(each) for each in (*folders, *files)]:
            self._remove(path)
        for token in tokens:
            for ending in ("", ".out", ".err"):
                self._remove(posixpath.join(self.site.job_folder, f"{folder_name(token)}{ending}"))

    def _remove(self, path: str) -> None:
        try:
            self._files.remove(path)
        except StillReading as slow:
            raise ServiceUnavailable("it is not removed yet", where=path) from slow

    def close(self) -> None:
        if "client" in vars(self):
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
    def _submission(self) -> Submission:
        settle = self.site.settle_seconds if self.patience.settle is None else self.patience.settle
        return Submission(calls=self._calls, memory=self._memory, patience=settle)

    def _folder(self, token: str) -> JobFolder:
        return JobFolder(files=self._files, path=posixpath.join(self.site.job_folder, token))

    @functools.cached_property
    def _files(self) -> Files:
        return Files(client=self.client, resource=self.site.storage or self.site.resource)


def _running(job: IriJob) -> Running:
    note = _NOTES.get(job.state, f"in state {job.said}" if job.said else "its state is not told")
    return Running(
        progress=Progress(note=f"{note}: {job.message}" if job.message and job.message != job.said else note),
        queued=job.state in (JobState.NEW, JobState.QUEUED, JobState.HELD),
    )


def _told(job: IriJob) -> Status:
    """As a list tells it: that it is over says nothing of its outputs, and who waits for it looks at them."""
    return Succeeded(evidence={"job": job.id, "state": job.said}) if job.state.over else _running(job)
