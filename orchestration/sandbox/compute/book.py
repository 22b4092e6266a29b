"""All that the stand-in for Globus Compute remembers: at hand in memory, and in the store for after a restart."""

from __future__ import annotations

from collections import defaultdict

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.compute.messages import Result
from orchestration.sandbox.compute.records import Endpoint, Function, Group, Task, UserEndpoint
from orchestration.sandbox.store import Store

_FUNCTION, _ENDPOINT, _USER_ENDPOINT = "compute-function", "compute-endpoint", "compute-user-endpoint"
_GROUP, _TASK, _PAYLOAD, _RESULT = "compute-group", "compute-task", "compute-payload", "compute-result"
_BROKER = "compute-broker"


class Book:
    """One method `keep_*` for each kind of record: call it after each change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.load()

    def forget_all(self) -> None:
        """All but where the broker listens, which does not change while it does."""
        for kind in (_FUNCTION, _ENDPOINT, _USER_ENDPOINT, _GROUP, _TASK, _PAYLOAD, _RESULT):
            self._store.clear(kind)
        self.load()

    def load(self) -> None:
        """As the store has it."""
        store = self._store
        self.functions = {key: Function.parse(found) for key, found in store.every(_FUNCTION)}
        self.endpoints = {key: Endpoint.parse(found) for key, found in store.every(_ENDPOINT)}
        self.user_endpoints = {key: UserEndpoint.parse(found) for key, found in store.every(_USER_ENDPOINT)}
        self.groups = {key: Group.parse(found) for key, found in store.every(_GROUP)}
        self.tasks = {key: Task.parse(found) for key, found in store.every(_TASK)}
        self._members: defaultdict[str, list[str]] = defaultdict(list)
        for task in self.tasks.values():
            self._members[task.group].append(task.id)

    @property
    def broker_port(self) -> int:
        """Where the broker listened last; 0 if it never did."""
        return documents.whole(self._store.get(_BROKER, "port") or {}, "port")

    @broker_port.setter
    def broker_port(self, port: int) -> None:
        self._store.put(_BROKER, "port", {"port": port})

    def keep_function(self, function: Function) -> None:
        self.functions[function.id] = function
        self._store.put(_FUNCTION, function.id, function.document())

    def remove_function(self, function: Function) -> None:
        self.functions.pop(function.id, None)
        self._store.remove(_FUNCTION, function.id)

    def keep_endpoint(self, endpoint: Endpoint) -> None:
        self.endpoints[endpoint.id] = endpoint
        self._store.put(_ENDPOINT, endpoint.id, endpoint.document())

    def remove_endpoint(self, endpoint: Endpoint) -> None:
        self.endpoints.pop(endpoint.id, None)
        self._store.remove(_ENDPOINT, endpoint.id)

    def keep_user_endpoint(self, endpoint: UserEndpoint) -> None:
        self.user_endpoints[endpoint.id] = endpoint
        self._store.put(_USER_ENDPOINT, endpoint.id, endpoint.document())

    def keep_group(self, group: Group) -> None:
        self.groups[group.id] = group
        self._store.put(_GROUP, group.id, group.document())

    def add_task(self, task: Task, payload: str) -> None:
        self._store.put(_PAYLOAD, task.id, {"buffer": payload})
        self._members[task.group].append(task.id)
        self.keep_task(task)

    def keep_task(self, task: Task) -> None:
        self.tasks[task.id] = task
        self._store.put(_TASK, task.id, task.document())

    def remove_task(self, task: Task) -> None:
        self.tasks.pop(task.id, None)
        self._members[task.group].remove(task.id)
        for kind in (_TASK, _PAYLOAD, _RESULT):
            self._store.remove(kind, task.id)

    def payload(self, task: Task) -> str:
        return documents.text(self._store.get(_PAYLOAD, task.id) or {}, "buffer")

    def members(self, group: str) -> list[Task]:
        """The tasks of a group, oldest first."""
        return [self.tasks[task_id] for task_id in self._members.get(group, ())]

    def keep_result(self, task: Task, result: Result) -> None:
        """The end of a task: from now on there is a result and no payload."""
        found: Document = {"data": result.data, "error_code": result.error_code, "message": result.message}
        self._store.put(_RESULT, task.id, found)
        self.keep_task(task)
        self._store.remove(_PAYLOAD, task.id)

    def result(self, task: Task) -> Result | None:
        """None as long as there is none, and when it was forgotten."""
        found = self._store.get(_RESULT, task.id)
        if found is None:
            return None
        return Result(
            task=task.id,
            data=documents.text(found, "data"),
            error_code=documents.text(found, "error_code"),
            message=documents.text(found, "message"),
            details=task.details,
        )

    def forget_result(self, task: Task) -> None:
        task.forgotten = True
        self._store.remove(_RESULT, task.id)
        self.keep_task(task)
