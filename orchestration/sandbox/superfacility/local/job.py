"""A job as the batch system of this machine knows it."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.store import Store

_KIND = "sf-job"
_LAST = "sf-last-job"
_FIRST = 40_000_000


class State(enum.StrEnum):
    """In the words of Slurm."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    DEADLINE = "DEADLINE"
    BOOT_FAIL = "BOOT_FAIL"

    @property
    def over(self) -> bool:
        return self not in {State.PENDING, State.RUNNING}


@dataclass(frozen=True, kw_only=True)
class Job:
    """Times are seconds since the epoch, `limit` is in seconds; `code` and `signal` are how it ended.

    `begin` is when it may begin, `deadline` when it must be over; `waits_for` are the conditions of ``--dependency``.
    `ended_by` is the uid of who cancelled it. The files are absolute, their patterns filled in.
    """

    id: int
    user: str
    name: str
    account: str
    quality: str
    partition: str
    features: str
    priority: int
    nodes: int
    cpus: int
    tasks: int
    cpus_per_task: int
    limit: float
    submitted: float
    directory: str
    output: str
    error: str
    input: str
    append: bool
    command: str
    comment: str = ""
    reservation: str = ""
    begin: float = 0.0
    deadline: float = 0.0
    waits_for: str = ""
    user_hold: bool = False
    state: State = State.PENDING
    reason: str = "Priority"
    started: float | None = None
    ended: float | None = None
    code: int = 0
    signal: int = 0
    ended_by: int | None = None

    @property
    def over(self) -> bool:
        return self.state.over

    @property
    def state_text(self) -> str:
        """As sacct says it."""
        return f"{self.state} by {self.ended_by}" if self.ended_by is not None else self.state.value

    def document(self) -> Document:
        return cast(Document, asdict(self))

    @classmethod
    def parse(cls, document: Document) -> Job:
        known = {field.name for field in fields(cls)}
        words: dict[str, Any] = {key: value for key, value in document.items() if key in known}
        return cls(**{**words, "state": State(words["state"])})


class Jobs:
    """All jobs, in memory and in the store. The caller sees to it that one thread writes at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        found = [Job.parse(document) for _, document in store.every(_KIND)]
        self._jobs = {job.id: job for job in found}
        self._present = {job.id: job for job in found if not job.over}
        self._last = _FIRST

    def next_id(self) -> int:
        """Never given before."""
        last = documents.whole(self._store.get(_LAST, "") or {}, "id", _FIRST)
        number = self._last = max(self._last, last) + 1
        self._store.put(_LAST, "", {"id": number})
        return number

    def keep(self, job: Job) -> Job:
        self._store.put(_KIND, str(job.id), job.document())
        return self.note(job)

    def note(self, job: Job) -> Job:
        """In memory only: what can be found out again."""
        self._jobs[job.id] = job
        if job.over:
            self._present.pop(job.id, None)
        else:
            self._present[job.id] = job
        return job

    def get(self, id_: int) -> Job | None:
        return self._jobs.get(id_)

    def every(self) -> list[Job]:
        """Oldest first."""
        return list(self._jobs.values())

    def present(self) -> list[Job]:
        """Those that are not over, oldest first."""
        return list(self._present.values())

    def forget_all(self) -> None:
        """In memory; the store is cleared by the caller."""
        self._jobs.clear()
        self._present.clear()
