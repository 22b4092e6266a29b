"""Globus Compute's tasks: how they are submitted, found and read. A task is one call of a function at an endpoint."""

from __future__ import annotations

import enum
import hashlib
import json
import platform
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from orchestration.errors import InvalidInput, ServiceUnavailable
from orchestration.globus.compute_clients import ComputeClients, Refused, answered
from orchestration.ledger.service import Document, Json

REQUEST_LIMIT = 10_000_000
"""Bytes of one submission that the web service takes."""

_HEALTH_SECONDS = 2.0
"""For how long what an endpoint said of itself is believed."""

_JSON = "11\n"
"""How the SDK marks values that it wrote as JSON."""


class Stand(enum.Enum):
    PENDING = enum.auto()
    RETURNED = enum.auto()
    RAISED = enum.auto()
    """The function ended with an exception, or never ran."""
    UNKNOWN = enum.auto()
    """It is over or gone, and the web service does not know (any more) what it returned."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the web service says of a task. `error` is the text of an exception."""

    stand: Stand
    status: str = ""
    value: Document = field(default_factory=dict)
    error: str = ""

    @classmethod
    def parse(cls, found: Mapping[str, Any] | None) -> Task:
        if found is None:
            return cls(stand=Stand.UNKNOWN, status="unknown")
        status = str(found.get("status") or "unknown").lower()
        if "exception" in found:
            return cls(stand=Stand.RAISED, status=status, error=str(found["exception"]))
        if "result" in found:
            value = _value(str(found["result"]))
            stand = Stand.UNKNOWN if value is None else Stand.RETURNED
            return cls(stand=stand, status=status, value=value or {})
        over = status in {"success", "failed"} or "completion_t" in found
        return cls(stand=Stand.UNKNOWN if over else Stand.PENDING, status=status)


@dataclass(frozen=True)
class ComputeTasks:
    clients: ComputeClients
    _functions: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _health: dict[str, tuple[float, bool]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def submit(
        self,
        endpoint: str,
        function: str,
        arguments: Sequence[Json],
        *,
        group: str | None = None,
        options: Mapping[str, object] | None = None,
    ) -> str:
        """Call a function of `compute_remote` there; returns the task's id. One submission, whatever becomes of it.

        Raises:
            InvalidInput: if the arguments are too large.
            Refused: if the web service says no: nothing was submitted.
        """
        try:
            return self._submit(endpoint, self._function(function), arguments, group, options)
        except Refused as refused:
            if not (refused.unknown and refused.code.startswith("FUNCTION")):
                raise
        # It forgot the function, and so has not submitted anything.
        self._functions.pop(function, None)
        return self._submit(endpoint, self._function(function), arguments, group, options)

    def members(self, group: str) -> list[str]:
        """The tasks of a group, oldest first; none where there is no such group."""
        try:
            answer = self.clients.call(lambda web: web.v2.get_task_group(group), where=f"task group {group}")
        except Refused as refused:
            if refused.unknown:
                return []
            raise refused.of_question() from refused
        rows = sorted(answered(answer, "tasks"), key=lambda row: str(row.get("created_at") or ""))
        return [str(row["id"]) for row in rows]

    def read(self, tasks: Iterable[str]) -> dict[str, Task]:
        """How they stand, by id: one request."""
        wanted = list(tasks)
        if not wanted:
            return {}
        try:
            answer = self.clients.call(lambda web: web.v2.get_task_batch(wanted), where="Globus Compute")
        except Refused as refused:
            raise refused.of_question() from refused
        found = answered(answer, "results")
        return {task: Task.parse(found.get(task)) for task in wanted}

    def require_online(self, endpoint: str, *, name: str) -> None:
        """Raises: ServiceUnavailable, if the endpoint is not there to take a task; Refused, if it may not be used."""
        if not self.online(endpoint):
            raise ServiceUnavailable(
                f"the Globus Compute endpoint {name} is offline",
                where=endpoint,
                next_step=f"start it at the facility: `globus-compute-endpoint start {name}`; it is asked again",
            )

    def online(self, endpoint: str) -> bool:
        """Raises: Refused, if the web service knows no such endpoint, or does not tell this service about it."""
        known = self._health.get(endpoint)
        if known is not None and known[1] and time.monotonic() - known[0] < _HEALTH_SECONDS:
            return True
        answer = self.clients.call(lambda web: web.v2.get_endpoint_status(endpoint), where=f"endpoint {endpoint}")
        found = str(answered(answer, "status")) == "online"
        self._health[endpoint] = (time.monotonic(), found)
        return found

    def _submit(
        self,
        endpoint: str,
        function: str,
        arguments: Sequence[Json],
        group: str | None,
        options: Mapping[str, object] | None,
    ) -> str:
        # Imported late: it takes a fifth of a second.
        from globus_compute_sdk.sdk.batch import Batch, create_user_runtime
        from globus_compute_sdk.serialize import ComputeSerializer, JSONData

        batch = Batch(
            group,
            user_endpoint_config=dict(options or {}),
            serializer=ComputeSerializer(strategy_data=JSONData),
            user_runtime=create_user_runtime(),
            result_serializers=["globus_compute_sdk.serialize.JSONData"],
        )
        batch.add(function, tuple(arguments))
        document = batch.prepare()
        size = len(json.dumps(document))
        if size > REQUEST_LIMIT:
            raise InvalidInput(
                f"a job of {size / 1e6:.1f} MB was asked for, and Globus Compute takes {REQUEST_LIMIT / 1e6:.0f} MB",
                where=f"endpoint {endpoint}",
                next_step="pass large things in files of the site, not as arguments or environment",
            )
        answer = self.clients.call(lambda web: web.v3.submit(endpoint, document), where=f"endpoint {endpoint}")
        return str(answered(answer, "tasks")[function][0])

    def _function(self, name: str) -> str:
        """The id under which the web service knows a function; registered once for each process."""
        with self._lock:
            if name not in self._functions:
                document = _registration(name)
                answer = self.clients.call(lambda web: web.v3.register_function(document), where="Globus Compute")
                self._functions[name] = str(answered(answer, "function_uuid"))
            return self._functions[name]


@cache
def _source() -> str:
    return (files("orchestration.globus") / "compute_remote.py").read_text(encoding="utf-8")


def _registration(name: str) -> dict[str, Any]:
    """As source, never as byte code: a worker of another minor version of Python would die of that."""
    from globus_compute_sdk import __version__

    digest = hashlib.sha256(_source().encode()).hexdigest()[:12]
    return {
        "function_name": name,
        "function_code": _source(),
        "serialized": False,
        "description": f"beamline-orchestration {digest}",
        "meta": {"python_version": platform.python_version(), "sdk_version": __version__},
    }


def _value(text: str) -> Document | None:
    """A value that came as JSON; None of one that came otherwise, which is not looked at: it could run anything."""
    if not text.startswith(_JSON):
        return None
    try:
        found = json.loads(text.removeprefix(_JSON))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
