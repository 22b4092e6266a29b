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
from orchestration.errors import ConfigError, InvalidInput, JobFailed
from orchestration.globus.compute_beginnings import Beginnings
from orchestration.globus.compute_clients import ComputeClients
from orchestration.globus.compute_errands import Errands, Sighting, Stop
from orchestration.globus.compute_tasks import ComputeTasks, Stand, Task
from orchestration.globus.compute_verdict import PROBE, duplicate, gone, never_began, refused, trouble
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer, Document, Failed, Json, Progress, Running, Status
from orchestration.remote import Launch, Times, verdict

_LOOK_PATIENCE = 0.5
"""Seconds that a poll waits for the login endpoint to read a report before it says that it does."""

_DEAD = 3
"""Times `lost_patience`: by then a runner that was told to stop has left a report, even if it was checking outputs."""

_REPORT_SECONDS = 60.0
"""What a runner may take beyond the job's own time to stop it and to check its outputs."""

_ARGUMENT_LIMIT = 120_000
"""Bytes of one word of a command line that Linux takes."""

_RUNNER_WORDS = 6
"""At the end of a launch's command: interpreter, -P, -m, module, run, orders."""


@dataclass(frozen=True)
class Handle:
    """A task, and its group: the job's token, which names its folder."""

    group: str
    task: str

    @classmethod
    def parse(cls, text: str) -> Handle:
        group, _, task = text.partition("/")
        return cls(group, task)

    def __str__(self) -> str:
        return f"{self.group}/{self.task}"


@dataclass(frozen=True)
class GlobusCompute:
    """A job is one task, in a group whose id was in the ledger before: by it the job is found again.

    What came of a job is in its folder at the site, and the task returns a copy of it. When the web service has
    forgotten the copy, or the worker was lost that should have returned it, the login endpoint reads the folder.

    The web service cannot stop a task that it has accepted. A job is stopped by what the login endpoint leaves in its
    folder: one that has not begun never will, one that runs ends by itself. A runner without its worker gets
    `lost_patience` seconds to stop and to leave a report; one that is cancelled, `cancel_patience` seconds before the
    answer is that nothing is known yet.
    """

    site: GlobusComputeSite
    credentials: Credentials
    lost_patience: float = 30.0
    cancel_patience: float = 4.0
    _tasks: ComputeTasks = field(init=False, repr=False, compare=False)
    _lost: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _unknown: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        clients = ComputeClients(self.credentials, self.site.service_url or None)
        object.__setattr__(self, "_tasks", ComputeTasks(clients))

    @property
    def name(self) -> str:
        return f"globus.compute@{self.site.name}"

    def reserve(self, key: str) -> str:
        return str(uuid.uuid4())

    def find(self, request: JobSpec, token: str) -> str | None:
        members = self._tasks.members(token)
        return str(Handle(token, members[0])) if members else None

    def submit(self, request: JobSpec, token: str) -> str:
        """Raises: ServiceUnavailable, with what to do about it, if the endpoint is offline."""
        now = time.time()
        patience = request.start_within or self.site.start_within_seconds
        launch = Launch(site=self.site, spec=request, token=token, start_by=now + patience)
        endpoint = self._endpoint
        order = _order(launch, now)
        self._tasks.require_online(endpoint, name=f"of {self.site.name} for jobs")
        task = self._tasks.submit(endpoint, "run_job", [order], group=token, options=self._options(request))
        return str(Handle(token, task))

    def poll(self, request: JobSpec, handle: str) -> Status:
        found = Handle.parse(handle)
        task = self._tasks.read([found.task])[found.task]
        if task.stand is Stand.PENDING:
            return self._waiting(found, task)
        self._beginnings.forget(self._folder(found))
        return self._status(request, found, task) or self._settle(request, found, task)

    def poll_many(self, items: Sequence[tuple[JobSpec, str]]) -> Mapping[str, Status]:
        """How all of these stand, in one request. What would need a second one is told as lost: `poll` finds out."""
        handles = {handle: Handle.parse(handle) for _, handle in items}
        tasks = self._tasks.read(handle.task for handle in handles.values())
        stands: dict[str, Status] = {}
        for request, handle in items:
            found = handles[handle]
            status = self._status(request, found, tasks[found.task])
            stands[handle] = status or Failed(error=self._gone(request, found, tasks[found.task]))
        return stands

    def cancel(self, handle: str) -> CancelAnswer:
        found = Handle.parse(handle)
        folder = self._folder(found)
        end = time.monotonic() + self.cancel_patience
        while (left := end - time.monotonic()) > 0:
            seen = self._errands.look(folder, stop=Stop.CANCELLED, patience=left)
            if seen is None:
                break
            if seen.report is not None:
                cancelled = seen.report.get("reason") == Stop.CANCELLED.value
                return CancelAnswer.CANCELLED if cancelled else CancelAnswer.ALREADY_FINISHED
            time.sleep(0.2)
        return CancelAnswer.UNKNOWN

    def condition(self) -> SiteCondition:
        """Whether its endpoints are there. Globus Compute knows nothing of allocations and maintenance."""
        if not self._tasks.online(self._endpoint):
            return SiteCondition(state=SiteState.DOWN, note="its Globus Compute endpoint is offline")
        if not self._tasks.online(self._login):
            return SiteCondition(state=SiteState.DEGRADED, note="its endpoint for light work is offline")
        return SiteCondition(state=SiteState.UP)

    def _status(self, request: JobSpec, handle: Handle, task: Task) -> Status | None:
        """What can be told without looking at the site; None if that is nothing."""
        if task.stand is Stand.PENDING:
            return Running(progress=Progress(note=task.status))
        if task.stand is Stand.RETURNED:
            report = task.value.get("report")
            if isinstance(report, dict):
                return self._verdict(request, handle, report, submitted=task.value.get("submitted"))
        return None

    def _waiting(self, handle: Handle, task: Task) -> Running:
        begun = task.status == "running" or self._beginnings.begun(self._folder(handle))
        if begun:
            return Running(progress=Progress(note="running"))
        return Running(progress=Progress(note=task.status), queued=begun is False, needs_care=True)

    def _settle(self, request: JobSpec, handle: Handle, task: Task) -> Status:
        """Look at the site what became of a job whose task is over without a report, or is not known any more."""
        if never_began(task):
            return Failed(error=trouble(_title(request), task, self.site, where=self._where(handle)))
        giving_up = str(handle) in self._lost
        seen = self._look(handle, stop=Stop.LOST if giving_up else Stop.NOT)
        if seen is None:
            return Running(progress=Progress(note="its report is being read at the site"))
        if seen.report is None and not giving_up:
            if seen.started_ago is None and refused(task):
                return Failed(error=self._gone(request, handle, task), evidence=self._facts(handle))
            if _goes_on(request, task, seen) or self._too_new(handle, task, seen):
                return Running(progress=Progress(note="its task is not known to Globus Compute"))
            # Before it is given up it is made sure that it does not begin, or go on, behind our back.
            self._unknown.pop(str(handle), None)
            self._lost[str(handle)] = time.monotonic()
            seen = self._look(handle, stop=Stop.LOST) or seen
        if seen.report is not None:
            self._lost.pop(str(handle), None)
            if seen.stopped == Stop.LOST.value and seen.report.get("reason") in set(Stop):
                return Failed(error=self._gone(request, handle, task), evidence=self._facts(handle))
            return self._verdict(request, handle, seen.report)
        if time.monotonic() - self._lost[str(handle)] < self.lost_patience:
            return Running(progress=Progress(note="its worker was lost, and it is being stopped"))
        del self._lost[str(handle)]
        return Failed(error=self._gone(request, handle, task), evidence=self._facts(handle))

    def _too_new(self, handle: Handle, task: Task, seen: Sighting) -> bool:
        """Whether the web service, which does not know the task, may only not know it yet."""
        if task.stand is not Stand.UNKNOWN or seen.started_ago is not None:
            return False
        first = self._unknown.setdefault(str(handle), time.monotonic())
        return time.monotonic() - first < self.lost_patience

    def _look(self, handle: Handle, *, stop: Stop) -> Sighting | None:
        return self._errands.look(self._folder(handle), stop=stop, patience=_LOOK_PATIENCE)

    def _gone(self, request: JobSpec, handle: Handle, task: Task) -> JobFailed:
        return gone(_title(request), task, where=self._where(handle))

    def _verdict(self, request: JobSpec, handle: Handle, report: Document, submitted: Json = None) -> Status:
        started, seconds = report.get("started_at"), report.get("seconds")
        began = float(started) if isinstance(started, int | float) and started else None
        times = Times(
            submitted=float(submitted) if isinstance(submitted, int | float) else None,
            started=began,
            ended=began + float(seconds) if began is not None and isinstance(seconds, int | float) else None,
        )
        facts = self._facts(handle) | times.document
        return verdict(_title(request), report, where=self._where(handle), facts=facts, spec=request)

    def _facts(self, handle: Handle) -> Document:
        return {"task": handle.task, "task_group": handle.group, "endpoint": self._endpoint}

    def _folder(self, handle: Handle) -> str:
        return posixpath.join(self.site.job_folder, handle.group)

    def _where(self, handle: Handle) -> str:
        return f"{self.site.name}, {self._folder(handle)}"

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
        """Raises: ConfigError, if there is none."""
        if self.site.endpoints.compute is None:
            raise ConfigError(
                f"no Globus Compute endpoint runs the jobs of {self.site.name}",
                where=f"compute_sites.{self.site.name}.endpoints.compute",
                next_step="set GLOBUS_COMPUTE_ENDPOINT to the `endpoint_id` in the endpoint's endpoint.json",
            )
        return str(self.site.endpoints.compute)

    @property
    def _login(self) -> str:
        return str(self.site.endpoints.non_compute or self._endpoint)

    @cached_property
    def _errands(self) -> Errands:
        name = f"of {self.site.name} for light work"
        return Errands(self._tasks, self._login, name, dead_after=_DEAD * self.lost_patience)

    @cached_property
    def _beginnings(self) -> Beginnings:
        return Beginnings(self._errands)


def _goes_on(request: JobSpec, task: Task, seen: Sighting) -> bool:
    """Whether a job without a report may be running: it began, and nothing says that its worker is lost."""
    if seen.started_ago is None or task.stand is Stand.RAISED:
        return False
    if task.stand is Stand.RETURNED and not duplicate(task):
        return False
    return seen.started_ago < request.duration + _REPORT_SECONDS


def _order(launch: Launch, now: float) -> Document:
    """What `compute_remote.run_job` is called with."""
    words = list(launch.command)
    given = ""
    if launch.site.container is None:
        words[-1], given = "-", launch.orders
    elif len(launch.orders) > _ARGUMENT_LIMIT:
        raise InvalidInput(
            f"the command of job {_title(launch.spec)} is {len(launch.orders)} bytes long",
            where=launch.site.name,
            next_step="pass large things in files of the site, not as arguments or environment",
        )
    probe = [*launch.command[:-_RUNNER_WORDS], launch.site.python, "-c", PROBE]
    return {
        "folder": launch.folder,
        "words": list[Json](words),
        "input": given,
        "probe": list[Json](probe),
        "submitted": now,
    }


def _title(request: JobSpec) -> str:
    return request.name or posixpath.basename(request.executable)
