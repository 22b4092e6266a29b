"""The folders of jobs, as the API shows them: what their runners leave there, and what stops a runner."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.config import NerscSite
from orchestration.errors import ConfigError, ServiceUnavailable
from orchestration.ledger.service import Document
from orchestration.nersc.calls import Calls, Task
from orchestration.nersc.errors import Unsent
from orchestration.nersc.handle import UNKNOWN_JOB
from orchestration.nersc.memory import Memory, Patience
from orchestration.nersc.script import log_path, outside
from orchestration.remote import CANCEL_MARKER, REPORT, STARTED, folder_name, own_path

_GIVEN_UP = "given-up"
"""Stands beside the cancel marker in the folder of a job that nobody cancelled: it was thought lost."""

_TAIL = 4096
"""Bytes of the end of each file that go into the evidence of a failure."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Of the jobs of one site. Every method may raise ServiceUnavailable."""

    site: NerscSite
    calls: Calls
    memory: Memory
    patience: Patience

    def report(self, token: str) -> Document | None:
        """None also while only a part of it can be read."""
        content = self.calls.download(self._path(token, REPORT))
        try:
            found = json.loads(content or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def started(self, token: str) -> str | None:
        """The number of the job whose runner left its mark, `UNKNOWN_JOB` if the mark does not tell; None without."""
        content = self.calls.download(self._path(token, STARTED))
        if content is None:
            return None
        try:
            found = json.loads(content)
        except ValueError:
            return UNKNOWN_JOB
        return str(found.get("job") or UNKNOWN_JOB) if isinstance(found, dict) else UNKNOWN_JOB

    def cancelled(self, token: str) -> bool:
        """Whether a runner of this job does nothing any more, or stops as soon as it looks."""
        return self.calls.exists(self._path(token, CANCEL_MARKER))

    def given_up(self, token: str) -> bool:
        """Whether it was this service that stopped it, by `give_up`."""
        return self.calls.is_directory(self._path(token, _GIVEN_UP))

    def give_up(self, token: str) -> bool:
        """Whether it is stopped, should it turn up or go on after all: it may be submitted again meanwhile."""
        if self.given_up(token):
            return True
        self._make(self._path(token, CANCEL_MARKER), self._path(token, _GIVEN_UP))  # in this order
        return self.given_up(token)

    def left(self, token: str) -> Document:
        """The ends of what Slurm and the program wrote, of a job that left no report."""
        paths = {"log": log_path(self.site, token)}
        paths |= {name: self._path(token, f"{name}.txt") for name in ("stdout", "stderr")}
        try:
            tasks = {name: self.calls.run(["tail", "-c", str(_TAIL), "--", path]) for name, path in paths.items()}
            return {name: self._output(task) for name, task in tasks.items()}
        except ServiceUnavailable as error:
            return {"log": f"the log cannot be read: {error.what}"}

    def clear(self, tokens: Sequence[str], others: Sequence[str]) -> None:
        """Raises ServiceUnavailable also if they are not known to be gone."""
        if not tokens and not others:
            return
        names = [folder_name(token) for token in tokens]
        paths = [path for name in names for path in (self._path(name), log_path(self.site, name))]
        paths += [outside(self.site, own_path(path)) for path in others]
        task = self._finished(self.calls.run(["rm", "-rf", "--", *paths]))
        if task is None or not task.completed or task.result.get("error"):
            said = "no word of it yet" if task is None else " ".join(str(task.result.get("error")).split())
            raise ServiceUnavailable(f"what jobs left was not removed: {said}", where=paths[0])

    def demand(self) -> None:
        """A job whose log cannot be written fails without a word.

        Raises:
            ConfigError: if the folder of folders cannot be made.
            Unsent: if it is not there yet.
        """
        if self.memory.folder_ready:
            return
        folder = self._path()
        if not self.calls.is_directory(folder):
            task = self._make(folder)
            if not self.calls.is_directory(folder):
                raise _unmade(task, folder, self.site)
        self.memory.folder_ready = True

    def _path(self, *names: str) -> str:
        return posixpath.join(outside(self.site, self.site.job_folder), *names)

    def _make(self, *paths: str) -> Task | None:
        return self._finished(self.calls.run(["mkdir", "-p", "--", *paths]))

    def _output(self, identifier: str) -> str:
        task = self._finished(identifier)
        return "" if task is None else str(task.result.get("output") or "")[-_TAIL:]

    def _finished(self, identifier: str) -> Task | None:
        return self.calls.finished(identifier, within=self.patience.task)


def _unmade(task: Task | None, folder: str, site: NerscSite) -> ConfigError | Unsent:
    said = "" if task is None else " ".join(str(task.result.get("error") or "").split())
    if task is None or not task.completed or not said:
        return Unsent("the folder for jobs could not be made yet; nothing was submitted", where=folder)
    return ConfigError(
        f"the folder for jobs cannot be made: {said}",
        where=f"{site.name}, {folder}",
        next_step="let job_folder of the site name a folder that this service's user may write",
    )
