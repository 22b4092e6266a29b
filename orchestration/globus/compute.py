"""Jobs at a facility that is reached by Globus Compute, each run exactly once."""

from __future__ import annotations

import posixpath
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from orchestration.conditions import SiteCondition, SiteState
from orchestration.config import Credentials, GlobusComputeSite
from orchestration.errors import InvalidInput, NotSetUp
from orchestration.globus.compute_clients import ComputeClients, Refused
from orchestration.globus.compute_ending import LOOKED_AT, Endings, Patience
from orchestration.globus.compute_errands import Errands, Stop
from orchestration.globus.compute_job import Handle, Job, order, title_of
from orchestration.globus.compute_survey import Survey
from orchestration.globus.compute_tasks import ComputeTasks, Stand, Task
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer, Progress, Running, Status
from orchestration.policy import Permitted, Place, opened
from orchestration.remote import Launch, folder_name, own_path

_CLEAR_SECONDS = 30.0


@dataclass(frozen=True)
class GlobusCompute:
    """A job is one task, in a group whose id was in the ledger before: by it the job is found again.

    What came of a job is in its folder at the site, and the task returns a copy of it. When the web service has
    forgotten the copy, or tells nothing, or the worker was lost that should have returned it, the login endpoint looks
    into the folder.

    The web service cannot stop a task that it has accepted. A job is stopped by what the login endpoint leaves in its
    folder: one that has not begun never will, one that runs ends by itself. It is over when it has a report.
    """

    site: GlobusComputeSite
    credentials: Credentials
    patience: Patience = field(default_factory=Patience, kw_only=True)

    @property
    def name(self) -> str:
        return f"globus.compute@{self.site.name}"

    @property
    def place(self) -> Place:
        return self.site.place

    def reserve(self, key: str) -> str:
        return str(uuid.uuid4())

    def find(self, request: JobSpec, token: str) -> str | None:
        members = self._tasks.members(token)
        return str(Handle(token, members[0])) if members else None

    def submit(self, permitted: Permitted[JobSpec], token: str) -> str:
        """Raises: ServiceUnavailable, with what to do about it, if the endpoint is offline; JobFailed for a no."""
        request = opened(permitted, JobSpec, at=self.place)
        if excess := self.site.excess(request.duration):
            raise InvalidInput(f"job {title_of(request)} would be cut off: {excess}", where=self.site.name)
        now = time.time()
        patience = request.start_within or self.site.start_within_seconds
        launch = Launch(site=self.site, spec=request, token=token, start_by=now + patience)
        endpoint, words = self._endpoint, order(launch, now)
        try:
            self._tasks.require_online(endpoint, name=f"of {self.site.name} for jobs")
            task = self._tasks.submit(endpoint, "run_job", [words], group=token, options=self._options(request))
        except Refused as refused:
            raise refused.of_submission() from refused
        return str(Handle(token, task))

    def poll(self, request: JobSpec, handle: str) -> Status:
        job = Job(site=self.site, request=request, handle=Handle.parse(handle))
        (task,) = self._read([job])
        return self._status(job, task) or self._endings.settle(job, task)

    def poll_many(self, items: Sequence[tuple[JobSpec, str]]) -> Mapping[str, Status]:
        """How all of these stand, in one request. One whose folder has to be looked at needs care: `poll` does that."""
        jobs = [Job(site=self.site, request=request, handle=Handle.parse(handle)) for request, handle in items]
        stands: dict[str, Status] = {}
        for job, task in zip(jobs, self._read(jobs), strict=True):
            status = self._status(job, task)
            if status is None:
                stands[str(job.handle)] = LOOKED_AT
            elif not (isinstance(status, Running) and status.needs_care):  # of those it is not known if they have begun
                stands[str(job.handle)] = status
        return stands

    def cancel(self, handle: str) -> CancelAnswer:
        folder = Handle.parse(handle).folder(self.site)
        end = time.monotonic() + self.patience.cancel
        while (left := end - time.monotonic()) > 0:
            seen = self._errands.look(folder, stop=Stop.CANCELLED, patience=left)
            if seen is None:
                break
            if seen.report is not None:
                if seen.report.get("reason") == Stop.CANCELLED.value:
                    return CancelAnswer.CANCELLED
                self._endings.keep(folder, seen)
                return CancelAnswer.ALREADY_FINISHED
            time.sleep(0.2)
        return CancelAnswer.UNKNOWN

    def clear(self, tokens: Sequence[str], *, folders: Sequence[str] = (), files: Sequence[str] = ()) -> None:
        """Remove the folders of jobs that are over, by one task."""
        own = [posixpath.join(self.site.job_folder, folder_name(token)) for token in tokens]
        others, files = [own_path(path) for path in folders], [own_path(path) for path in files]
        if own or others or files:
            self._errands.clear([*own, *others], files, patience=_CLEAR_SECONDS)

    def condition(self) -> SiteCondition:
        """Whether its endpoints are there. Globus Compute knows nothing of allocations and maintenance."""
        try:
            if not self._tasks.online(self._endpoint):
                return SiteCondition(state=SiteState.DOWN, note="its Globus Compute endpoint is offline")
            if not self._tasks.online(self._login):
                return SiteCondition(state=SiteState.DEGRADED, note="its endpoint for light work is offline")
        except Refused as refused:
            raise refused.of_question() from refused
        return SiteCondition(state=SiteState.UP)

    def _read(self, jobs: Sequence[Job]) -> list[Task]:
        """How their tasks stand, and, by the same request, what the last look into their folders found."""
        found = self._tasks.read([*(job.handle.task for job in jobs), *self._survey.open])
        tasks = [found[job.handle.task] for job in jobs]
        self._survey.learn(found)
        pending = [job.folder for job, task in zip(jobs, tasks, strict=True) if task.stand is Stand.PENDING]
        self._survey.look_after(pending)
        return tasks

    def _status(self, job: Job, task: Task) -> Status | None:
        """What can be told without a look of its own at the site; None if that is nothing."""
        if task.stand is Stand.PENDING:
            return self._waiting(job, task)
        self._survey.forget(job.folder)
        report = task.value.get("report")
        if not isinstance(report, dict):
            return None
        self._endings.forget(job.folder)
        return self._endings.reported(job, report, submitted=task.value.get("submitted"))

    def _waiting(self, job: Job, task: Task) -> Running | None:
        """Of a task that waits or runs, by Globus Compute; None if its folder says that it does not."""
        mark, said = self._survey.mark(job.folder), task.status == "running"
        if self._endings.known(job.folder) or (mark is not None and mark.over):
            return None
        if mark is None and not said:
            doubt = f"; whether it has begun is not known: {self._survey.trouble}" if self._survey.trouble else ""
            return Running(progress=Progress(note=f"{task.status}{doubt}"), needs_care=True)
        began = None if mark is None else mark.started_ago
        if began is None and not said:
            return Running(progress=Progress(note=task.status), queued=True)
        in_time = began is None or self._endings.in_time(job, began)
        return Running(progress=Progress(note="running")) if in_time else None

    def _options(self, request: JobSpec) -> dict[str, object]:
        """Of the endpoint. Each different set of them starts another process there: so none is the job's own."""
        named = {
            "queue": request.queue,
            "account": request.account,
            "constraint": request.constraint,
            "reservation": request.reservation,
            "nodes": request.resources.nodes if request.resources.nodes > 1 else None,
        }
        return {**self.site.options, **{name: value for name, value in named.items() if value}}

    @property
    def _endpoint(self) -> str:
        """Raises: NotSetUp, if there is none."""
        if self.site.endpoints.compute is None:
            raise NotSetUp(
                f"no Globus Compute endpoint runs the jobs of {self.site.name}",
                where=f"compute_sites.{self.site.name}.endpoints.compute",
                next_step="set GLOBUS_COMPUTE_ENDPOINT to the `endpoint_id` in the endpoint's endpoint.json",
            )
        return str(self.site.endpoints.compute)

    @property
    def _login(self) -> str:
        return str(self.site.endpoints.non_compute or self._endpoint)

    @cached_property
    def _tasks(self) -> ComputeTasks:
        return ComputeTasks(ComputeClients(self.credentials, self.site.service_url or None))

    @cached_property
    def _errands(self) -> Errands:
        name = f"of {self.site.name} for light work"
        return Errands(self._tasks, self._login, name, dead_after=self.patience.dead)

    @cached_property
    def _survey(self) -> Survey:
        return Survey(errands=self._errands, every=self.patience.look)

    @cached_property
    def _endings(self) -> Endings:
        return Endings(errands=self._errands, patience=self.patience)
