"""Tasks: what was asked, how it stands, and how it is remembered."""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import cast

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock, documents
from orchestration.sandbox.globus import codes
from orchestration.sandbox.store import Store

_TASK = "globus-task"
ROLLING_DEADLINE = timedelta(days=3)
"""Progress pushes the deadline of a task that asked for none out to this far."""


class TaskStatus(enum.StrEnum):
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        return self in {TaskStatus.SUCCEEDED, TaskStatus.FAILED}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One line of a request. A delete has no destination."""

    source: str
    destination: str = ""
    recursive: bool | None = None
    checksum: str = ""
    algorithm: str = ""

    @classmethod
    def parse(cls, document: Document) -> Item:
        recursive = document.get("recursive")
        return cls(
            source=documents.text(document, "source_path") or documents.text(document, "path"),
            destination=documents.text(document, "destination_path"),
            recursive=recursive if isinstance(recursive, bool) else None,
            checksum=documents.text(document, "external_checksum"),
            algorithm=documents.text(document, "checksum_algorithm"),
        )


@dataclass(kw_only=True)
class Numbers:
    """Counters of a task; the subtasks are one per item and one per file or directory found."""

    faults: int = 0
    files: int = 0
    directories: int = 0
    symlinks: int = 0
    files_transferred: int = 0
    files_skipped: int = 0
    bytes_transferred: int = 0
    bytes_checksummed: int = 0
    pending: int = 0
    retrying: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    skipped_errors: int = 0

    @property
    def total(self) -> int:
        parts = (self.pending, self.retrying, self.succeeded, self.failed, self.canceled, self.expired)
        return sum(parts) + self.skipped_errors


@dataclass(frozen=True, kw_only=True)
class Event:
    code: str
    description: str
    details: str
    is_error: bool
    time: str

    def document(self) -> Document:
        return {"DATA_TYPE": "event", **cast(Document, asdict(self))}


@dataclass(kw_only=True)
class Task:
    """A task; `body` is the document that was submitted. Its fields change under `lock` only."""

    id: str
    kind: str
    body: Document
    owner: str
    source: str
    destination: str
    requested: datetime
    deadline: datetime
    label: str = ""
    status: TaskStatus = TaskStatus.ACTIVE
    completed: datetime | None = None
    nice: str = "Queued"
    nice_details: str = ""
    fatal: str = ""
    numbers: Numbers = field(default_factory=Numbers)
    events: list[Event] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    wake: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when something happened that a waiting task must look at: a cancel, a new deadline, the end of a pause."""
    finished: threading.Event = field(default_factory=threading.Event, repr=False)
    cancelled: bool = False

    @property
    def items(self) -> list[Item]:
        return [Item.parse(item) for item in documents.objects(self.body, "DATA")]

    @property
    def submission(self) -> str:
        return documents.text(self.body, "submission_id")

    @property
    def is_transfer(self) -> bool:
        return self.kind == "TRANSFER"

    @property
    def signature(self) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
        """Two active tasks of one owner may not share this."""
        paths = sorted((item.source, item.destination) for item in self.items)
        return self.kind, self.source, self.destination, tuple(paths)

    def option(self, name: str) -> bool:
        return documents.flag(self.body, name)

    def event(self, code: str, details: str = "", *, is_error: bool = False) -> None:
        with self.lock:
            entry = Event(
                code=code,
                description=codes.describe(code),
                details=details,
                is_error=is_error,
                time=clock.stamp(),
            )
            self.events.append(entry)

    def fault(self, fault: codes.Fault) -> None:
        """Something went wrong and will be tried again."""
        with self.lock:
            self.numbers.faults += 1
            self.nice, self.nice_details = fault.code, fault.details
            self.event(fault.code, fault.details, is_error=True)

    def well(self) -> None:
        with self.lock:
            self.nice, self.nice_details = "OK", ""

    def end(self, status: TaskStatus, fatal: str = "") -> None:
        """Once: a task that has ended stays as it is."""
        with self.lock:
            if self.status.ended:
                return
            self.status, self.fatal, self.completed = status, fatal, clock.now()
            numbers = self.numbers
            left, numbers.pending, numbers.retrying = numbers.pending + numbers.retrying, 0, 0
            match status, fatal:
                case TaskStatus.SUCCEEDED, _:
                    numbers.succeeded += left
                case _, "CANCELED":
                    numbers.canceled += left
                case _, "EXPIRED":
                    numbers.expired += left
                case _:
                    numbers.failed += left
        self.finished.set()

    def progressed(self) -> None:
        """Push the default deadline out."""
        if not self.body.get("deadline"):
            self.deadline = max(self.deadline, clock.now() + ROLLING_DEADLINE)

    def document(self) -> Document:
        """How it is kept."""
        with self.lock:
            return {
                "kind": self.kind,
                "body": self.body,
                "owner": self.owner,
                "source": self.source,
                "destination": self.destination,
                "requested": self.requested.isoformat(),
                "deadline": self.deadline.isoformat(),
                "label": self.label,
                "status": self.status.value,
                "completed": self.completed.isoformat() if self.completed else "",
                "nice": self.nice,
                "nice_details": self.nice_details,
                "fatal": self.fatal,
                "cancelled": self.cancelled,
                "numbers": cast(Document, asdict(self.numbers)),
                "events": [event.document() for event in self.events],
            }

    @classmethod
    def parse(cls, task_id: str, document: Document) -> Task:
        body, numbers = document["body"], document["numbers"]
        completed = documents.text(document, "completed")
        task = cls(
            id=task_id,
            body=body if isinstance(body, dict) else {},
            requested=clock.parse(documents.text(document, "requested")),
            deadline=clock.parse(documents.text(document, "deadline")),
            status=TaskStatus(documents.text(document, "status")),
            completed=clock.parse(completed) if completed else None,
            cancelled=documents.flag(document, "cancelled"),
            numbers=Numbers(**{name: documents.whole(numbers, name) for name in numbers})
            if isinstance(numbers, dict)
            else Numbers(),
            events=[_event(row) for row in documents.objects(document, "events")],
            kind=documents.text(document, "kind"),
            owner=documents.text(document, "owner"),
            source=documents.text(document, "source"),
            destination=documents.text(document, "destination"),
            label=documents.text(document, "label"),
            nice=documents.text(document, "nice"),
            nice_details=documents.text(document, "nice_details"),
            fatal=documents.text(document, "fatal"),
        )
        if task.status.ended:
            task.finished.set()
        return task


def _event(document: Document) -> Event:
    words = {name: documents.text(document, name) for name in ("code", "description", "details", "time")}
    return Event(**words, is_error=documents.flag(document, "is_error"))


class Tasks:
    """All tasks ever accepted, oldest first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tasks = {key: Task.parse(key, document) for key, document in store.every(_TASK)}
        self._by_submission = {task.submission: task for task in self._tasks.values()}
        self.lock = threading.RLock()
        """Held while a submission is judged and accepted."""

    def __iter__(self) -> Iterator[Task]:
        with self.lock:
            return iter(list(self._tasks.values()))

    def get(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def of_submission(self, submission: str) -> Task | None:
        return self._by_submission.get(submission)

    def add(self, task: Task) -> None:
        with self.lock:
            self._tasks[task.id] = task
            self._by_submission[task.submission] = task
        self.save(task)

    def save(self, task: Task) -> None:
        self._store.put(_TASK, task.id, task.document())

    def moved(self, task: Task, source: str, row: Document) -> None:
        """Remember one file that arrived."""
        self._store.put(f"globus-moved/{task.id}", source, row)

    def arrived(self, task: Task) -> dict[str, Document]:
        """Files that arrived, by source path."""
        return dict(self._store.every(f"globus-moved/{task.id}"))

    def skipped(self, task: Task, source: str, row: Document) -> None:
        """Remember one source error that was forgiven."""
        self._store.put(f"globus-skipped/{task.id}", source, row)

    def errors_skipped(self, task: Task) -> list[Document]:
        return [row for _, row in self._store.every(f"globus-skipped/{task.id}")]

    def forget_all(self) -> None:
        with self.lock:
            self._tasks.clear()
            self._by_submission.clear()


def as_json(rows: list[Document]) -> list[Json]:
    return list[Json](rows)
