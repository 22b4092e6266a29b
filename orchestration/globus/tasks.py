"""Globus tasks: how they are known, read and stopped; the same for transfers and deletions."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import globus_sdk

from orchestration.errors import (
    AccessDenied,
    OperationFailed,
    ServiceUnavailable,
    SourceMissing,
    TransferConflict,
    TransferFailed,
)
from orchestration.globus.auth import TransferClients
from orchestration.ledger.service import CancelAnswer, Progress, Request

_LABEL_LENGTH = 128
_DIGEST_LENGTH = 16
_CONFIRM_SECONDS = 3.0
_TASKS_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task document, as far as it matters here."""

    id: str
    status: str
    label: str
    ok: bool
    code: str
    """What it is busy with, while active; why it failed, when it has."""
    details: str
    paused: bool
    files: int
    files_transferred: int
    files_skipped: int
    bytes_transferred: int
    bytes_per_second: float
    faults: int
    subtasks_bad: int
    """Of its parts, those that failed, were cancelled, expired or were left out."""
    requested: str
    completed: str

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Task:
        fatal = document.get("fatal_error") or {}
        bad = ("failed", "canceled", "expired", "skipped_errors")
        return cls(
            id=str(document["task_id"]),
            status=str(document["status"]),
            label=str(document.get("label") or ""),
            ok=document.get("is_ok") is not False,
            code=str(fatal.get("code") or document.get("nice_status") or ""),
            details=str(fatal.get("description") or document.get("nice_status_details") or ""),
            paused=bool(document.get("is_paused")),
            files=_count(document, "files"),
            files_transferred=_count(document, "files_transferred"),
            files_skipped=_count(document, "files_skipped"),
            bytes_transferred=_count(document, "bytes_transferred"),
            bytes_per_second=float(document.get("effective_bytes_per_second") or 0),
            faults=_count(document, "faults"),
            subtasks_bad=sum(_count(document, f"subtasks_{kind}") for kind in bad),
            requested=str(document.get("request_time") or ""),
            completed=str(document.get("completion_time") or ""),
        )

    @property
    def moved(self) -> tuple[int, int]:
        """Grows as long as the task gets anywhere."""
        return self.bytes_transferred, self.files_transferred + self.files_skipped

    def progress(self, note: str) -> Progress:
        return Progress(
            bytes_done=self.bytes_transferred,
            files_done=self.files_transferred + self.files_skipped,
            files_total=self.files or None,
            bytes_per_second=self.bytes_per_second or None,
            note=note,
        )


@dataclass(frozen=True, kw_only=True)
class Event:
    code: str
    details: str


def digest(request: Request) -> str:
    """Names what is asked; part of the label, since Globus does not say which paths an active task has."""
    text = json.dumps(request.document(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]


def label(title: str, *, request: Request, token: str) -> str:
    """For people (`title`), for adoption (the request's digest) and for `find` (the token), in 128 characters."""
    tail = f"{digest(request)} {token}"
    plain = re.sub(r"[^A-Za-z0-9._-]+", " ", title).strip()[: _LABEL_LENGTH - len(tail) - 1].strip()
    return f"{plain} {tail}".strip()


@dataclass(frozen=True)
class GlobusTasks:
    """The tasks of this service's identity."""

    clients: TransferClients

    def reserve(self) -> str:
        """A submission id: two submissions under it are one task."""
        answer = self.clients.call(lambda client: client.get_submission_id(), where="Globus Transfer")
        return str(answer["value"])

    def find(self, token: str) -> str | None:
        """The task that was submitted under this token."""
        return next(iter(self._labelled(f"~*{token}")), None)

    def adopt(self, request: Request, refusal: TransferConflict) -> str:
        """Our own task that is still at the same work, from an attempt that was given up.

        Raises:
            TransferConflict: if the task in the way is not ours.
        """
        found = next(iter(self._labelled(f"~*{digest(request)}*", status="ACTIVE,INACTIVE")), None)
        if found is None:
            raise refusal
        return found

    def get(self, task_id: str) -> Task:
        try:
            answer = self._ask(lambda client: client.get_task(task_id), where=where(task_id))
        except SourceMissing as error:
            raise TransferFailed("Globus does not know the task (any more)", where=where(task_id)) from error
        return Task.parse(answer.data)

    def active(self) -> dict[str, Task]:
        """All that have not ended, by id, in as few requests as Globus allows (one for a thousand)."""
        found: dict[str, Task] = {}
        while True:
            page = self._active_after(len(found))
            found |= {task.id: task for task in page}
            if len(page) < _TASKS_AT_ONCE:
                return found

    def _active_after(self, offset: int) -> list[Task]:
        answer = self._ask(
            lambda client: client.task_list(filter="status:ACTIVE,INACTIVE", limit=_TASKS_AT_ONCE, offset=offset),
            where="Globus Transfer",
        )
        return [Task.parse(row) for row in answer["DATA"]]

    def errors(self, task_id: str) -> list[Event]:
        """The latest, newest first."""
        answer = self._ask(
            lambda client: client.task_event_list(task_id, limit=100, query_params={"filter": "is_error:1"}),
            where=where(task_id),
        )
        return [Event(code=str(row["code"]), details=str(row.get("details") or "")) for row in answer["DATA"]]

    def cancel(self, task_id: str) -> CancelAnswer:
        """Stop it, and see that it stopped."""
        try:
            self.clients.call(lambda client: client.cancel_task(task_id), where=where(task_id))
            task = self._ended(task_id)
        except SourceMissing:
            return CancelAnswer.UNKNOWN  # there is no such task (any more)
        except AccessDenied:
            return CancelAnswer.REFUSED
        if task.status in {"ACTIVE", "INACTIVE"}:
            return CancelAnswer.UNKNOWN
        return CancelAnswer.CANCELLED if task.code == "CANCELED" else CancelAnswer.ALREADY_FINISHED

    def _ended(self, task_id: str) -> Task:
        """The task once it has ended, or as it is after a short wait."""
        end = time.monotonic() + _CONFIRM_SECONDS
        pause = 0.05
        while (task := self.get(task_id)).status in {"ACTIVE", "INACTIVE"} and time.monotonic() < end:
            time.sleep(pause)
            pause *= 2
        return task

    def _labelled(self, pattern: str, *, status: str = "") -> Iterable[str]:
        clauses = [f"label:{pattern}", *([f"status:{status}"] if status else [])]
        answer = self._ask(lambda client: client.task_list(filter="/".join(clauses), limit=10), where="Globus Transfer")
        return [str(row["task_id"]) for row in answer["DATA"]]

    def _ask(
        self, ask: Callable[[globus_sdk.TransferClient], globus_sdk.GlobusHTTPResponse], *, where: str
    ) -> globus_sdk.GlobusHTTPResponse:
        """A question about tasks.

        Raises:
            SourceMissing: if there is no such task.
            ServiceUnavailable: also if the question is refused, which says nothing about a task: it may go on.
        """
        try:
            return self.clients.read(ask, where=where)
        except SourceMissing:
            raise
        except OperationFailed as refusal:
            said = f"Globus does not tell how tasks are: {refusal.what}"
            raise ServiceUnavailable(said, where=where, next_step=refusal.next_step) from refusal


def submit(clients: TransferClients, data: globus_sdk.TransferData | globus_sdk.DeleteData, *, where: str) -> str:
    """Submit under the submission id in `data`, and return the id of the task: a new one, or the one that it has.

    Raises:
        OrchestrationError: TransferConflict if another task has the same paths.
    """
    deletion = isinstance(data, globus_sdk.DeleteData)
    answer = clients.call(
        lambda client: client.submit_delete(data) if deletion else client.submit_transfer(data), where=where
    )
    return str(answer["task_id"])


def where(task_id: str) -> str:
    """Where a person can see the task."""
    return f"https://app.globus.org/activity/{task_id}"


def _count(document: Mapping[str, Any], name: str) -> int:
    return int(document.get(name) or 0)
