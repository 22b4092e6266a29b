"""What clients have asked an index to change: one task after another, in the order in which they came."""

from __future__ import annotations

import enum
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock, documents
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.search.entries import Entry, Index, Indexes
from orchestration.sandbox.search.fields import Refused
from orchestration.sandbox.search.words import selection
from orchestration.sandbox.store import Store

_KIND = "search-task"
_DESCRIPTIONS = {
    "PENDING": "Task is waiting to start",
    "PROGRESS": "Task is in progress",
    "SUCCESS": "Task succeeded",
    "FAILED": "Task failed",
}


class TaskType(enum.StrEnum):
    INGEST = "ingest"
    BY_SUBJECT = "delete-by-subject"
    BY_QUERY = "delete-by-query"
    BY_ENTRY = "delete-by-entry-id"


@dataclass
class Task:
    """`body` is what it is to do, in the words of the request."""

    id: str
    index: str
    type: TaskType
    body: Document
    state: str = "PENDING"
    message: str | None = None
    details: Document | None = None
    created: str = ""
    completed: str | None = None

    @property
    def ended(self) -> bool:
        return self.state in {"SUCCESS", "FAILED"}

    def view(self) -> Document:
        return {
            "task_id": self.id,
            "index_id": self.index,
            "task_type": self.type.value,
            "state": self.state,
            "state_description": _DESCRIPTIONS[self.state],
            "creation_date": self.created,
            "completion_date": self.completed,
            "message": self.message,
            "additional_details": self.details,
        }

    def document(self) -> Document:
        return self.view() | {"body": {} if self.ended else self.body}

    @classmethod
    def parse(cls, row: Document) -> Task:
        return cls(
            id=documents.text(row, "task_id"),
            index=documents.text(row, "index_id"),
            type=TaskType(documents.text(row, "task_type")),
            body=documents.object_at(row, "body"),
            state=documents.text(row, "state"),
            message=documents.text(row, "message") or None,
            details=documents.object_at(row, "additional_details") or None,
            created=documents.text(row, "creation_date"),
            completed=documents.text(row, "completion_date") or None,
        )


@dataclass
class Worker:
    """Does the tasks of all indexes in one thread; while an index is held, its tasks wait."""

    indexes: Indexes
    store: Store
    effects: Effects
    delay: float
    held: set[str] = field(default_factory=set)
    _tasks: dict[str, Task] = field(default_factory=dict, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)

    def start(self) -> None:
        """Go on with the tasks of before."""
        self._tasks = {key: Task.parse(row) for key, row in self.store.every(_KIND)}
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What has not ended goes on after the next start."""
        self._stopping.set()
        self.wake()
        if self._thread is not None:
            self._thread.join()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def accept(self, index: Index, type_: TaskType, body: Document, *, about: str) -> Task:
        task = Task(id=str(uuid.uuid4()), index=index.id, type=type_, body=body, created=_stamp())
        with self._changed:
            self._keep(task)
            self.effects.happened("ingest" if type_ is TaskType.INGEST else "unindex", task.id, key=about)
            self._tasks[task.id] = task
            self._changed.notify_all()
        return task

    def get(self, id_: str) -> Task | None:
        return self._tasks.get(id_)

    def of_index(self, index: str) -> list[Task]:
        """The latest first."""
        return [task for task in reversed(list(self._tasks.values())) if task.index == index]

    def _keep(self, task: Task) -> None:
        self.store.put(_KIND, task.id, task.document())

    def _next(self) -> Task | None:
        waiting = (task for task in self._tasks.values() if not task.ended and task.index not in self.held)
        return next(waiting, None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                task = self._next()
                if task is None:
                    self._changed.wait_for(lambda: self._stopping.is_set() or self._next() is not None)
                    continue
            if self._stopping.wait(self.delay):
                return
            if task.index not in self.held:
                self._do(task)

    def _do(self, task: Task) -> None:
        task.state = "PROGRESS"
        index = self.indexes.get(task.index)
        errors = self._ingest(index, task) if task.type is TaskType.INGEST else self._delete(index, task)
        if errors:
            task.message = f"{len(errors)} of the documents could not be indexed"
            task.details = {"errors": errors}
        task.completed = _stamp()
        task.state = "FAILED" if errors else "SUCCESS"
        self._keep(task)

    def _ingest(self, index: Index, task: Task) -> list[Json]:
        """What is wrong with the entries that were refused; the others are indexed."""
        errors: list[Json] = []
        for entry in map(Entry.parse, documents.objects(task.body, "gmeta")):
            try:
                self.indexes.put(index, entry)
            except Refused as refusal:
                errors.append({"subject": entry.subject, "entry_id": entry.id, "message": str(refusal)})
            else:
                self.effects.happened("indexed", task.id, key=entry.subject, label=entry.id or "")
        return errors

    def _delete(self, index: Index, task: Task) -> list[Json]:
        for entry in filter(_doomed(task), index.snapshot()):
            if self.indexes.remove(index, entry):
                self.effects.happened("unindexed", task.id, key=entry.subject, label=entry.id or "")
        return []


def _doomed(task: Task) -> Callable[[Entry], bool]:
    """Which entries a deletion is about."""
    match task.type:
        case TaskType.BY_SUBJECT:
            subjects = set(documents.strings(task.body, "subjects"))
            return lambda entry: entry.subject in subjects
        case TaskType.BY_ENTRY:
            key = (task.body.get("subject"), task.body.get("entry_id"))
            return lambda entry: (entry.subject, entry.id) == key
        case TaskType.BY_QUERY:
            chosen = selection(task.body)
            return lambda entry: chosen(entry) is not None
        case TaskType.INGEST:
            return lambda _: False


def _stamp() -> str:
    return clock.now().replace(tzinfo=None).isoformat()
