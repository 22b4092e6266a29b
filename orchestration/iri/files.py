"""Reading small files at the facility: a task is begun, and its result is there a moment later."""

from __future__ import annotations

import base64
import binascii
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus

from orchestration.errors import ServiceUnavailable
from orchestration.iri import errors
from orchestration.iri.client import IriClient, an_object
from orchestration.ledger.service import Document, Json

LARGEST = 5 * 1024 * 1024
"""Bytes that the API answers with at most."""


class StillReading(Exception):
    """Raised when a task has not ended in the time given; the same question goes on where this one stopped."""


@dataclass(kw_only=True)
class Files:
    """The files of one resource. `patience` is how long one question waits, in seconds."""

    client: IriClient
    resource: str
    patience: float = 2.0
    _tasks: dict[str, str] = field(default_factory=dict, init=False)
    _use_download: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def read(self, path: str) -> bytes | None:
        """The content; None if it cannot be read, mostly because it is not there.

        Raises:
            StillReading, ServiceUnavailable, ConfigError (not let in)
        """
        with self._lock:
            task = self._tasks.get(path)
        task = task or self._begin(path)
        if task is None:
            return None
        with self._lock:
            self._tasks[path] = task
        done = self._ended(task)
        with self._lock:
            self._tasks.pop(path, None)
        if done is None or done.get("status") != "completed":
            return None
        return _content(done.get("result"), self.client.where)

    def make_directory(self, path: str) -> None:
        """With those above it; that it is there already is as well.

        Raises:
            ServiceUnavailable: also if that is not certain yet.
        """
        where = f"filesystem/mkdir/{self.client.resource(self.resource)}"
        try:
            self._ended(_task_of(self.client.post(where, {"path": path, "parent": True}), self.client.where))
        except errors.Refused as refused:
            raise refused.doubt() from refused
        except StillReading as slow:
            raise ServiceUnavailable("a directory is not made yet", where=path) from slow

    def remove(self, path: str) -> None:
        """A file, or a directory with all that is in it.

        Raises:
            ServiceUnavailable: also if it is refused, or not certain yet.
        """
        where = f"filesystem/rm/{self.client.resource(self.resource)}"
        v1 = self.client.site.version == 1
        try:
            found = self.client.remove(where, {"path": path}) if v1 else self.client.post(where, {"path": path})
            self._ended(_task_of(found, self.client.where))
        except errors.Refused as refused:
            raise refused.doubt() from refused
        except StillReading as slow:
            raise ServiceUnavailable("it is not removed yet", where=path) from slow

    def _begin(self, path: str) -> str | None:
        """The task that reads it: as text where the facility shows that, since not every facility has both."""
        try:
            if not self._use_download:
                return self._ask("view", {"path": path, "size": LARGEST})
        except errors.Refused as refused:
            if refused.status not in (404, 405, errors.NOT_IMPLEMENTED):
                _heed(path, refused)
                return None
        try:
            task = self._ask("download", {"path": path})
        except errors.Refused as refused:
            _heed(path, refused)
            return None
        self._use_download = True
        return task

    def _ask(self, operation: str, args: dict[str, str | int]) -> str:
        where = f"filesystem/{operation}/{self.client.resource(self.resource)}"
        v1 = self.client.site.version == 1
        found = self.client.get(where, args) if v1 else self.client.post(where, {**args})
        return _task_of(found, self.client.where)

    def _ended(self, task: str) -> Document | None:
        """The task once it is over; None if the facility has forgotten it."""
        end, pause = time.monotonic() + self.patience, 0.02
        while True:
            try:
                found = an_object(self.client.get(f"task/{task}"), self.client.where)
            except errors.Refused as refused:
                if refused.unknown:
                    return None
                raise refused.doubt() from refused
            if found.get("status") not in ("pending", "active"):
                return found
            if time.monotonic() + pause > end:
                raise StillReading
            threading.Event().wait(pause)
            pause = min(0.5, pause * 1.5)


def _heed(path: str, refused: errors.Refused) -> None:
    """Raises ConfigError where this service may not read at all; a file that is not there is refused as well."""
    if refused.status == HTTPStatus.FORBIDDEN:
        raise refused.translated(f"{path} cannot be read") from refused


def _task_of(found: Json, where: str) -> str:
    task = an_object(found, where).get("task_id")
    if not isinstance(task, str):
        raise errors.not_iri(where)
    return task


def _content(result: Json, where: str) -> bytes:
    """From ``{"output": {"content": TEXT}}`` of a view, or ``{"output": BASE64}`` of a download."""
    output = result.get("output") if isinstance(result, dict) else None
    if isinstance(output, dict) and isinstance(output.get("content"), str):
        return str(output["content"]).encode()
    if not isinstance(output, str):
        raise errors.not_iri(where)
    try:
        return base64.b64decode(output, validate=True)
    except binascii.Error:
        return output.encode()
