"""Small files at the facility: an operation on them begins a task, and what it puts out is there a moment later."""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from orchestration.errors import ServiceUnavailable
from orchestration.iri import errors
from orchestration.iri.client import IriClient, an_object, objects
from orchestration.ledger.service import Document, Json

LARGEST = 5 * 1024 * 1024
"""Bytes that the API answers with at most."""

_NOT_OFFERED = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
_NO_FILE = re.compile(r"no such file", re.IGNORECASE)
_ABSENT = re.compile(r"no such file|(file|path|directory) not found|does not exist", re.IGNORECASE)
"""In the words of an operation that was begun. A request may be refused because anything else does not exist."""


class StillReading(Exception):
    """Raised when a task has not ended in the time given; the same question goes on where this one stopped."""


class _Undone(Exception):
    """Raised when an operation was refused (`status`), failed or was forgotten; `said` is the facility's word on it."""

    def __init__(self, said: str, *, status: int | None = None) -> None:
        super().__init__(said)
        self.said = said
        self.status = status

    @property
    def absent(self) -> bool:
        """Whether all that is wrong is that there is nothing of that name."""
        return (_ABSENT if self.status is None else _NO_FILE).search(self.said) is not None


@dataclass(kw_only=True)
class Files:
    """The files of one resource. `patience` is how long one question waits, in seconds.

    Every method may raise StillReading, ServiceUnavailable (also for what the facility does not do for a reason that
    says nothing about the file) and ConfigError (this service may not do that there).
    """

    client: IriClient
    resource: str
    patience: float = 2.0
    _tasks: dict[str, str] = field(default_factory=dict, init=False)
    _use_download: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def read(self, path: str) -> bytes | None:
        """The content; None only if there is no such file."""
        try:
            return self._content(path)
        except _Undone as undone:
            if undone.absent or posixpath.basename(path) not in self.names(posixpath.dirname(path)):
                return None
            raise self._doubt(f"{path} is there and cannot be read", undone) from undone

    def names(self, folder: str) -> frozenset[str]:
        """What is in a directory; nothing is in one that is not there."""
        try:
            rows = self._output("ls", {"path": folder})
        except _Undone as undone:
            if undone.absent:
                return frozenset()
            raise self._doubt(f"{folder} cannot be looked into", undone) from undone
        return frozenset(posixpath.basename(str(row.get("name"))) for row in objects(rows, self.client.where))

    def make_directory(self, path: str) -> None:
        """With those above it. It is there when this returns, whoever made it."""
        try:
            self._output("mkdir", {"path": path, "parent": True})
        except _Undone as undone:
            if posixpath.basename(path) not in self.names(posixpath.dirname(path)):
                raise self._doubt(f"{path} cannot be made", undone) from undone

    def remove(self, path: str) -> None:
        """A file, or a directory with all that is in it. It is gone when this returns, whoever removed it."""
        try:
            self._output("rm", {"path": path})
        except _Undone as undone:
            if not undone.absent and posixpath.basename(path) in self.names(posixpath.dirname(path)):
                raise self._doubt(f"{path} cannot be removed", undone) from undone

    def _content(self, path: str) -> bytes:
        """As text where the facility shows that, since not every facility has both."""
        if not self._use_download:
            try:
                return _bytes(self._output("view", {"path": path, "size": LARGEST}), self.client.where)
            except _Undone as undone:
                if undone.status not in _NOT_OFFERED:
                    raise
        try:
            output = self._output("download", {"path": path})
        except _Undone as undone:
            self._use_download = undone.status is None
            raise
        self._use_download = True
        return _bytes(output, self.client.where)

    def _output(self, operation: str, args: Mapping[str, str | int | bool]) -> Json:
        """Raises: _Undone."""
        question = f"{operation} {args['path']}"
        with self._lock:
            task = self._tasks.get(question)
        task = task or self._begin(operation, args)
        with self._lock:
            self._tasks[question] = task
        try:
            done = self._ended(task)
        except errors.Refused as refused:
            self._forget(question)
            raise _Undone("its task is not known any more") from refused  # which says nothing about the file
        self._forget(question)
        result = done.get("result")
        output = result.get("output") if isinstance(result, dict) else None
        if done.get("status") != "completed":
            raise _Undone(output if isinstance(output, str) else json.dumps(result))
        return output

    def _begin(self, operation: str, args: Mapping[str, str | int | bool]) -> str:
        """The task of it. Raises: _Undone."""
        where = f"filesystem/{operation}/{self.client.resource(self.resource)}"
        try:
            if self.client.site.version != 1 or operation == "mkdir":
                found = self.client.post(where, {**args})
            elif operation == "rm":
                found = self.client.remove(where, args)
            else:
                found = self.client.get(where, args)
        except errors.Refused as refused:
            if refused.status == HTTPStatus.FORBIDDEN:
                raise refused.translated(f"{args['path']} cannot be used") from refused
            raise _Undone(refused.said, status=refused.status) from refused
        task = an_object(found, self.client.where).get("task_id")
        if not isinstance(task, str):
            raise errors.not_iri(self.client.where)
        return task

    def _ended(self, task: str) -> Document:
        """The task once it is over. Raises: Refused."""
        end, pause = time.monotonic() + self.patience, 0.02
        while True:
            found = an_object(self.client.get(f"task/{task}"), self.client.where)
            if found.get("status") not in ("pending", "active"):
                return found
            if time.monotonic() + pause > end:
                raise StillReading
            threading.Event().wait(pause)
            pause = min(0.5, pause * 1.5)

    def _forget(self, question: str) -> None:
        with self._lock:
            self._tasks.pop(question, None)

    def _doubt(self, what: str, undone: _Undone) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"{what}: {undone.said}",
            where=self.client.where,
            next_step="wait for the file system of the facility; see, too, that `storage` of the site names it",
        )


def _bytes(output: Json, where: str) -> bytes:
    """From ``{"content": TEXT}`` of a view, or the Base64 of a download."""
    if isinstance(output, dict) and isinstance(output.get("content"), str):
        return str(output["content"]).encode()
    if not isinstance(output, str):
        raise errors.not_iri(where)
    try:
        return base64.b64decode(output, validate=True)
    except binascii.Error:
        return output.encode()
