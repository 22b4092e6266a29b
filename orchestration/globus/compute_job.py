"""One job as Globus Compute has it: the handle of its task, its folder, and the order that the task is called with."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import cached_property

from orchestration.config import GlobusComputeSite
from orchestration.errors import InvalidInput
from orchestration.globus.compute_verdict import PROBE
from orchestration.jobs import JobSpec
from orchestration.ledger.service import Document, Json
from orchestration.remote import Launch

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

    def folder(self, site: GlobusComputeSite) -> str:
        """As jobs see it."""
        return posixpath.join(site.job_folder, self.group)


@dataclass(frozen=True, kw_only=True)
class Job:
    site: GlobusComputeSite
    request: JobSpec
    handle: Handle

    @cached_property
    def folder(self) -> str:
        return self.handle.folder(self.site)

    @property
    def title(self) -> str:
        return title_of(self.request)

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.site.name}, {self.folder}"

    @property
    def facts(self) -> Document:
        """Identifiers, for the evidence."""
        endpoint = str(self.site.endpoints.compute or "")
        return {"task": self.handle.task, "task_group": self.handle.group, "endpoint": endpoint}


def title_of(request: JobSpec) -> str:
    return request.name or posixpath.basename(request.executable)


def order(launch: Launch, now: float) -> Document:
    """What `compute_remote.run_job` is called with.

    Raises:
        InvalidInput: if the command is too long for the container engine of the site.
    """
    words = list(launch.command)
    given = ""
    if launch.site.container is None:
        words[-1], given = "-", launch.orders
    elif len(launch.orders) > _ARGUMENT_LIMIT:
        raise InvalidInput(
            f"the command of job {title_of(launch.spec)} is {len(launch.orders)} bytes long",
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
