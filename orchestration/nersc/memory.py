"""What this process remembers of submissions. Nothing depends on it: without it, more is looked up, and waited for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from orchestration.nersc.rows import Row


@dataclass(frozen=True, kw_only=True)
class Patience:
    """For how many seconds the facility may not know yet what it will know."""

    settle: float = 15.0
    """From the first look for a submission in doubt until it is thought never to have arrived: longer than a request
    may be on its way."""
    task: float = 20.0
    """From a submission until Slurm has it; afterwards it is in doubt."""
    report: float = 30.0
    """From the end of a job until its report is thought never to come: file systems of many nodes are slow to agree."""
    unknown: float = 120.0
    """From the first time that squeue does not list a job, nor sacct its end, until it is lost; what sacct calls alive
    has its walltime besides."""
    accounting: float = 0.5
    """From the first look at the report of a job until its end is told without what sacct would say of it."""
    cancel: float = 8.0
    """From a cancellation until it is answered that it is not confirmed yet."""
    status: float = 10.0
    """For how long what the status page says is not asked again."""


@dataclass
class Memory:
    """Safe for threads."""

    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _unsent: set[str] = field(default_factory=set)
    _tasks: dict[str, str] = field(default_factory=dict)
    _since: dict[tuple[str, str], float] = field(default_factory=dict)
    _seen: dict[str, Row] = field(default_factory=dict)
    _sent: dict[str, float] = field(default_factory=dict)
    folder_ready: bool = False
    user: str = ""

    def unsent(self, token: str) -> None:
        """It is certain that nothing was submitted under this token."""
        with self._lock:
            self._unsent.add(token)
            self._tasks.pop(token, None)
            self._since.pop(("settle", token), None)

    def is_unsent(self, token: str) -> bool:
        with self._lock:
            return token in self._unsent

    def sending(self, token: str) -> None:
        with self._lock:
            self._unsent.discard(token)
            self._sent[token] = time.time()

    def sent_at(self, token: str) -> float | None:
        """Seconds since the epoch; None of what another process submitted."""
        with self._lock:
            return self._sent.get(token)

    def submitted(self, token: str, task: str) -> None:
        with self._lock:
            self._tasks[token] = task

    def task(self, token: str) -> str | None:
        with self._lock:
            return self._tasks.get(token)

    def forget_task(self, token: str) -> None:
        with self._lock:
            self._tasks.pop(token, None)

    def waited(self, what: str, key: str) -> float:
        """Seconds since this was asked first."""
        with self._lock:
            now = time.monotonic()
            return now - self._since.setdefault((what, key), now)

    def began(self, what: str, key: str) -> bool:
        """Whether this was asked before."""
        with self._lock:
            return (what, key) in self._since

    def seen(self, handle: str, row: Row) -> None:
        """The queue lists this job, like this."""
        with self._lock:
            self._seen[handle] = row
            for what in ("absent", "ended"):
                self._since.pop((what, handle), None)

    def was_seen(self, handle: str) -> bool:
        with self._lock:
            return handle in self._seen

    def last_seen(self, handle: str) -> Row | None:
        """What the queue told last, while it listed the job."""
        with self._lock:
            return self._seen.get(handle)

    def settled(self, token: str, handle: str) -> None:
        """The job is over, and what became of it is known."""
        with self._lock:
            self._unsent.discard(token)
            self._tasks.pop(token, None)
            self._seen.pop(handle, None)
            self._sent.pop(token, None)
            for key in [key for key in self._since if key[1] in (token, handle)]:
                del self._since[key]
