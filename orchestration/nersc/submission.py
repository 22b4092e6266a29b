"""Submitting a job once, and finding again what was submitted, whatever was not answered meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from orchestration.conditions import SiteState
from orchestration.errors import JobFailed, ServiceUnavailable
from orchestration.nersc.calls import Calls, Task
from orchestration.nersc.errors import Unsent
from orchestration.nersc.folders import Folders
from orchestration.nersc.memory import Memory, Patience
from orchestration.nersc.refusals import certain
from orchestration.nersc.rows import Row
from orchestration.nersc.script import job_name, token_of
from orchestration.nersc.status import NerscStatus
from orchestration.remote import dated, undated


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Of any job of one site."""

    folders: Folders
    status: NerscStatus

    @property
    def calls(self) -> Calls:
        return self.folders.calls

    @property
    def memory(self) -> Memory:
        return self.folders.memory

    @property
    def patience(self) -> Patience:
        return self.folders.patience

    def reserve(self, key: str) -> str:
        """A token for a new job; that of a job of the same work that waits or runs already.

        This ledger may not know of that one: it was restored from an older state, or is a second one.

        Raises:
            ServiceUnavailable: also while such a job is still being stopped.
        """
        for number, token in self._alive(_work(key)):
            if self.folders.report(token) is not None:
                continue  # it is over, or the second job of its token, which does nothing
            if not self.folders.cancelled(token):
                return token
            self.calls.cancel(number)
            raise ServiceUnavailable(
                f"job {number}, an earlier one for the same work, is still being stopped",
                where=self.folders.site.name,
                retry_after=1.0,
            )
        token = dated(key)
        self.memory.unsent(token)
        return token

    def send(self, script: str, token: str) -> str:
        """The number of the job. The caller knows that nothing is submitted under this token.

        Raises:
            ServiceUnavailable: nothing was sent, or it is in doubt: `find` tells.
            JobFailed: Slurm refuses it.
        """
        self._demand_machine()
        self.folders.demand()
        self.memory.sending(token)
        try:
            task = self.calls.submit(script)
        except Unsent:
            self.memory.unsent(token)
            raise
        self.memory.submitted(token, task)
        try:
            return self._number(task, token)
        except JobFailed:
            self.folders.give_up(token)  # should Slurm have it all the same, it does nothing
            raise

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
        found = self._listed(token) or self.folders.started(token)
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

    def _alive(self, work: str) -> list[tuple[str, str]]:
        """Number and token of each job of this work that is in the queue or runs; the oldest first."""
        rows = [row for row in self.calls.queue(user=self.user()) if not row.over]
        found = [(row.id, token) for row in rows if (token := token_of(row.name)) and _work(undated(token)) == work]
        return sorted(found, key=lambda each: _order(each[0]))

    def _listed(self, token: str) -> str | None:
        alive = self.namesakes(token)
        ended = [] if alive else self.calls.accounting(user=self.user())
        rows = alive or [row for row in ended if row.name == job_name(token)]
        return min((row.id for row in rows), key=_order, default=None)

    def _number(self, identifier: str, token: str) -> str:
        """Of the job that a task submits."""
        machine = self.folders.site.machine
        task = self.calls.finished(identifier, within=self.patience.task)
        if task is not None and task.open:
            raise ServiceUnavailable(f"{machine} has the job, and has not given it to Slurm yet")
        self.memory.forget_task(token)
        if task is None or not task.completed:
            raise ServiceUnavailable("the Superfacility API lost a submission; whether Slurm has it is not known")
        return self._answered(task)

    def _answered(self, task: Task) -> str:
        site = self.folders.site
        said = " ".join(str(task.result.get("error") or "").split())
        number, outcome = str(task.result.get("jobid") or ""), str(task.result.get("status") or "").lower()
        if outcome == "ok" and number:
            return number
        if outcome == "error" and certain(said):
            raise JobFailed(
                f"Slurm refuses the job: {said}",
                where=f"{site.name}, {site.machine}",
                next_step="correct queue, account, constraint, nodes or walltime of the site in the settings",
            )
        raise ServiceUnavailable(f"whether Slurm has the job is not known: {said or 'it does not say'}")

    def _demand_machine(self) -> None:
        """The library does not look: it submits to a machine in maintenance as to any other."""
        if self.status.glance().state is SiteState.DOWN:
            machine = self.folders.site.machine
            raise Unsent(f"{machine} is not available; nothing was submitted", where=self.folders.site.name)


def _work(key: str) -> str:
    """What all attempts have in common."""
    return key.rsplit("-", 1)[0]


def _order(number: str) -> tuple[int, str]:
    return (int(number), number) if number.isdigit() else (0, number)
