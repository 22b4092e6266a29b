"""What the stand-in for the Superfacility API needs of a batch system.

Two keep this protocol: processes of this machine (`local`), and a real Slurm (`slurm`). The services above it are the
same for both: accounts, tasks, lags and maintenance are theirs, not the batch system's.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol


class Refused(Exception):
    """Raised when a command of the batch system fails; the text is what it printed, as a user would see it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class UnknownUser(Exception):
    """Raised where the machine has no such user."""


class Unsupported(Exception):
    """Raised when this batch system cannot be made to do what the control of the sandbox asks for."""


class EndState(enum.StrEnum):
    """How a job may be made to end; the words are Slurm's."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    DEADLINE = "DEADLINE"
    BOOT_FAIL = "BOOT_FAIL"


@dataclass(frozen=True, kw_only=True)
class Group:
    name: str
    gid: int


@dataclass(frozen=True, kw_only=True)
class Person:
    """A user of the machine. `groups` begin with the primary one."""

    name: str
    uid: int
    home: Path
    groups: tuple[Group, ...]
    full_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is given to sbatch: the `text` of a script on its standard input, or the `path` of one with `arguments`."""

    text: str = ""
    path: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A job that was taken. `name` is the job's name as Slurm shows it."""

    id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which jobs: those that all conditions given hold for."""

    jobs: tuple[str, ...] | None = None
    user: str = ""
    partition: str = ""


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One job, with the columns of squeue or sacct by their headers in lower case.

    The times are in seconds since the epoch; `ended` is None while the job is in the queue or runs.
    """

    fields: Mapping[str, str]
    submitted: float
    ended: float | None = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command left; `code` is that of a shell: 127 for no such command, 124 for one stopped at its limit."""

    code: int
    stdout: bytes = b""
    stderr: bytes = field(default=b"")

    @property
    def error(self) -> str:
        return self.stderr.decode(errors="replace")


class Scheduler(Protocol):
    """A batch system, and the login node before it. Every method may be called from any thread, and may block."""

    def open(self) -> None:
        """Begin, or go on with the jobs of before. Called once, before anything else."""

    def close(self) -> None:
        """Let go; all jobs live on."""

    def reset(self) -> None:
        """End all jobs and forget them."""

    def person(self, user: str) -> Person:
        """Raises: UnknownUser."""

    def submit(self, user: str, script: Script) -> Accepted:
        """As ``sbatch`` run by this user, in their home directory. Raises: Refused."""

    def queue(self, user: str, query: Query) -> list[JobRow]:
        """As ``squeue -o %all``: only jobs that are not over; no row for an unknown id. Raises: Refused."""

    def accounting(self, user: str, query: Query) -> list[JobRow]:
        """As ``sacct -X -P -o ALL``: all jobs, over or not. Raises: Refused."""

    def cancel(self, user: str, job: str) -> None:
        """As ``scancel``; a job that is over stays as it is. Raises: Refused."""

    def run(
        self,
        user: str,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        limit: float = 600.0,
        stop: threading.Event | None = None,
    ) -> Output:
        """Run a command (no shell) as this user in their home directory; ended with its children after `limit` seconds,
        or once `stop` is set.
        """

    def resolve(self, user: str, path: str) -> PurePosixPath:
        """The real place of a path, links followed, whether or not there is something there yet."""

    def hold(self, held: bool) -> None:
        """While held, no job begins. Raises: Unsupported."""

    def end(self, job: str, state: EndState) -> None:
        """Make a job end in this state, whatever it does. Raises: Unsupported, Refused."""
