"""Tasks: work on files that goes on after the answer."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.responses import JSONResponse

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.iri.calls import Call, Operation
from orchestration.sandbox.iri.files import FileTrouble
from orchestration.sandbox.iri.knobs import Knobs
from orchestration.sandbox.iri.problems import not_found
from orchestration.sandbox.store import Store

_KIND = "iri-task"
_OPEN = frozenset({"pending", "active"})


class Tasks:
    """Kept across restarts; what a restart interrupts has failed."""

    def __init__(self, store: Store, knobs: Knobs) -> None:
        self._store = store
        self._knobs = knobs
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="iri-task")

    def open(self) -> None:
        for id_, task in self._store.every(_KIND):
            if task["status"] in _OPEN:
                self._move(id_, "failed", {"output": "the service was restarted"})

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, call: Call, command: str, args: Document, act: Callable[[], Json]) -> Document:
        """`args` are what is shown of the request; `act` does it."""
        id_ = str(uuid.uuid4())
        shown: Document = {"router": "filesystem", "command": command, "args": args}
        task: Document = {"id": id_, "user": call.user, "status": "pending", "result": None, "command": shown}
        self._store.put(_KIND, id_, task)
        self._pool.submit(self._run, id_, act)
        return {"task_id": id_, "task_uri": f"{call.base}/task/{id_}"}

    def _run(self, id_: str, act: Callable[[], Json]) -> None:
        if not self._knobs.pass_by("task_delay") or not self._move(id_, "active", None):
            return
        try:
            result, status = act(), "completed"
        except (FileTrouble, OSError) as error:
            result, status = _told(error), "failed"
        self._move(id_, status, {"output": result})

    def _move(self, id_: str, status: str, result: Document | None) -> bool:
        """Whether it was still wanted."""
        with self._lock:
            task = self._store.get(_KIND, id_)
            if task is None or task["status"] not in _OPEN:
                return False
            self._store.put(_KIND, id_, task | {"status": status, "result": result})
            return True

    def operations(self) -> list[Operation]:
        one = "/task/{task_id}"
        return [
            Operation(name="getTasks", method="GET", path="/task", handler=self.every),
            Operation(name="getTask", method="GET", path=one, handler=self.get),
            Operation(name="deleteTask", method="DELETE", path=one, handler=self.delete),
        ]

    def every(self, call: Call) -> JSONResponse:
        mine = [task for _, task in self._store.every(_KIND) if task["user"] == call.user]
        return JSONResponse([_view(task) for task in mine])

    def get(self, call: Call) -> JSONResponse:
        return JSONResponse(_view(self._known(call)))

    def delete(self, call: Call) -> JSONResponse:
        id_ = documents.text(self._known(call), "id")
        self._move(id_, "canceled", None)
        return JSONResponse(f"Task {id_} deleted successfully")

    def _known(self, call: Call) -> Document:
        id_ = call.path("task_id")
        task = self._store.get(_KIND, id_)
        if task is None or task["user"] != call.user:
            raise not_found(f"Task {id_}")
        return task


def _view(task: Document) -> Document:
    return {key: task[key] for key in ("id", "status", "result", "command")}


def _told(error: FileTrouble | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
