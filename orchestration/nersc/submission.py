"""Submitting a job once, and finding again what was submitted, whatever was not answered meanwhile."""

from __future__ import annotations

import json
import posixpath
import time
from dataclasses import dataclass

from orchestration.conditions import SiteState
from orchestration.config import NerscSite
from orchestration.errors import ConfigError, JobFailed, ServiceUnavailable
from orchestration.nersc.calls import Calls, Task
from orchestration.nersc.errors import Unsent
from orchestration.nersc.memory import Memory, Patience
from orchestration.nersc.rows import Row
from orchestration.nersc.script import job_name, outside
from orchestration.nersc.states import busy
from orchestration.nersc.status import NerscStatus

UNKNOWN_JOB = "0"
"""Stands for the number of a job that ran, as its folder shows, and that Slurm does not list."""

_STARTED = "started.json"
_LOOKS = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Seconds between two questions about a task; the last for all that follow."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Of any job of one site."""

    site: NerscSite
    calls: Calls
    status: NerscStatus
    memory: Memory
    patience: Patience

    def send(self, script: str, token: str) -> str:
        """The number of the job. The caller knows that nothing is submitted under this token.

        Raises:
            ServiceUnavailable: nothing was sent, or it is in doubt: `find` tells.
            JobFailed: Slurm refuses it.
        """
        self._demand_machine()
        self.demand_folder()
        self.memory.sending(token)
        try:
            task = self.calls.submit(script)
        except Unsent:
            self.memory.unsent(token)
            raise
        self.memory.submitted(token, task)
        return self._number(task, token)

    def find(self, token: str) -> str | None:
        """The number of the job under this token; None once it is certain that there is none, and never will be.

        Raises:
            ServiceUnavailable: also while a submission may still be on its way.
        """
        if self.memory.is_unsent(token):
            return None
        task = self.memory.task(token)
        if task is not None:
            try:
                return self._number(task, token)
            except JobFailed:
                self.memory.unsent(token)
                return None
        on_its_way = self.calls.tasks_open()  # asked first: what is done after this answer is seen by the next ones
        found = self._listed(token) or self._started(token)
        if found is not None:
            return found
        waited = self.memory.waited("settle", token)
        if waited < max(self.patience.settle, self.patience.task if on_its_way else 0.0):
            raise ServiceUnavailable(
                "no job of this name is known yet; a submission may still be on its way",
                retry_after=min(1.0, self.patience.settle),
            )
        self.memory.unsent(token)
        return None

    def namesakes(self, token: str) -> list[Row]:
        """The jobs of this token that are in the queue or run; more than one if an answer was lost for very long."""
        return [row for row in self.calls.queue(user=self.user()) if row.name == job_name(token) and not row.over]

    def user(self) -> str:
        if not self.memory.user:
            self.memory.user = self.calls.user()
        return self.memory.user

    @property
    def _folder(self) -> str:
        return outside(self.site, self.site.job_folder)

    def _listed(self, token: str) -> str | None:
        alive = self.namesakes(token)
        ended = [] if alive else self.calls.accounting(user=self.user())
        rows = alive or [row for row in ended if row.name == job_name(token)]
        return min((row.id for row in rows), key=_order, default=None)

    def _started(self, token: str) -> str | None:
        """By the mark that its runner left: squeue forgets soon, and sacct tells only of today."""
        content = self.calls.download(posixpath.join(self._folder, token, _STARTED))
        if content is None:
            return None
        try:
            found = json.loads(content)
        except ValueError:
            return UNKNOWN_JOB
        return str(found.get("job") or UNKNOWN_JOB) if isinstance(found, dict) else UNKNOWN_JOB

    def _number(self, identifier: str, token: str) -> str:
        """Of the job that a task submits."""
        task = self._finished(identifier)
        if task is not None and task.open:
            raise ServiceUnavailable(f"{self.site.machine} has the job, and has not given it to Slurm yet")
        self.memory.forget_task(token)
        if task is None or not task.completed:
            raise ServiceUnavailable("the Superfacility API lost a submission; whether Slurm has it is not known")
        said = " ".join(str(task.result.get("error") or "").split())
        number = str(task.result.get("jobid") or "")
        if str(task.result.get("status")).lower() == "ok" and number:
            return number
        if busy(said) or not said:
            raise ServiceUnavailable(f"Slurm does not take a job now: {said or 'it does not say why'}")
        raise JobFailed(
            f"Slurm refuses the job: {said}",
            where=f"{self.site.name}, {self.site.machine}",
            next_step="correct queue, account, constraint, nodes or walltime of the site in the settings",
        )

    def _finished(self, identifier: str) -> Task | None:
        """Once it is done, or when patience is at its end."""
        until = time.monotonic() + self.patience.task
        looks = iter(_LOOKS)
        while True:
            task = self.calls.task(identifier)
            if task is None or not task.open or time.monotonic() > until:
                return task
            time.sleep(next(looks, _LOOKS[-1]))

    def _demand_machine(self) -> None:
        """The library does not look: it submits to a machine in maintenance as to any other."""
        if self.status.glance().state is SiteState.DOWN:
            raise Unsent(f"{self.site.machine} is not available; nothing was submitted", where=self.site.name)

    def demand_folder(self) -> None:
        """A job whose log cannot be written fails without a word."""
        if self.memory.folder_ready:
            return
        folder = self._folder
        if not self.calls.is_directory(folder):
            task = self._finished(self.calls.run(["mkdir", "-p", "--", folder]))
            if not self.calls.is_directory(folder):
                said = "" if task is None else " ".join(str(task.result.get("error") or "").split())
                if task is None or task.open or not task.completed or not said:
                    raise Unsent("the folder for jobs could not be made yet; nothing was submitted", where=folder)
                raise ConfigError(
                    f"the folder for jobs cannot be made: {said}",
                    where=f"{self.site.name}, {folder}",
                    next_step="let job_folder of the site name a folder that this service's user may write",
                )
        self.memory.folder_ready = True


def _order(number: str) -> tuple[int, str]:
    return (int(number), number) if number.isdigit() else (0, number)
