"""The calls of the Superfacility API that jobs need, each one request, with answers that are checked."""

from __future__ import annotations

import base64
import binascii
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from orchestration.errors import ServiceUnavailable
from orchestration.ledger.service import Document, Json
from orchestration.nersc.client import Clients, Verbs
from orchestration.nersc.errors import foreign, status_of
from orchestration.nersc.rows import Row, rows

if TYPE_CHECKING:
    import httpx

_Request: TypeAlias = "Callable[[Verbs], httpx.Response]"

_NEW = "new"
_DONE = "completed"
_LOOKS = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Seconds between two questions about a task; the last for all that follow."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something that the API does by itself: a submission, a command.

    `result` is there once it is completed; one that cannot be read has only an ``error``, and no ``status``.
    """

    status: str
    result: Document

    @property
    def open(self) -> bool:
        return self.status == _NEW

    @property
    def completed(self) -> bool:
        return self.status == _DONE


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Every method may raise ServiceUnavailable, and ConfigError where this service is not let in."""

    clients: Clients
    machine: str

    def queue(self, *, jobs: Sequence[str] = (), user: str = "") -> list[Row]:
        """The jobs that squeue shows of these, or of this user."""
        return self._rows("false", jobs, user)

    def accounting(self, *, jobs: Sequence[str] = (), user: str = "") -> list[Row]:
        """The jobs that sacct knows; without `jobs` only those since midnight."""
        return self._rows("true", jobs, user)

    def submit(self, script: str) -> str:
        """The identifier of the task that hands it to Slurm. One request, whatever becomes of it."""
        form = {"job": script, "isPath": "false"}
        answer = self._ask(lambda client: client.post(f"compute/jobs/{self.machine}", form))
        self._accepted(answer)
        return _identifier(answer, "task_id")

    def task(self, identifier: str) -> Task | None:
        """None if there is no such task any more."""
        answer = self._ask_maybe(lambda client: client.get(f"tasks/{identifier}"))
        return None if answer is None else _task(answer)

    def finished(self, identifier: str, *, within: float) -> Task | None:
        """A task once it is done, or after so many seconds; None if there is no such task any more."""
        until = time.monotonic() + within
        looks = iter(_LOOKS)
        while True:
            task = self.task(identifier)
            if task is None or not task.open or time.monotonic() > until:
                return task
            time.sleep(next(looks, _LOOKS[-1]))

    def tasks_open(self) -> bool:
        """Whether anything that was asked for by this user is not done yet."""
        found = (self._ask_maybe(lambda client: client.get("tasks")) or {}).get("tasks")
        listed = found if isinstance(found, list) else []
        return any(isinstance(each, dict) and each.get("status") == _NEW for each in listed)

    def cancel(self, job: str) -> bool:
        """Ask for it; False if the API knows no such job."""
        answer = self._ask_maybe(lambda client: client.delete(f"compute/jobs/{self.machine}/{quote(job)}"))
        if answer is not None:
            self._accepted(answer)
        return answer is not None

    def download(self, path: str) -> bytes | None:
        """The content of a small file; None if there is none. Raises ServiceUnavailable also if it cannot be read."""
        url = f"utilities/download/{self.machine}/{quote(path)}"
        answer = self._ask_maybe(lambda client: client.get(url, {"binary": "true"}))
        if answer is None or "No such file" in str(answer.get("error") or ""):
            return None
        self._accepted(answer)
        text = str(answer.get("file") or "")
        if not answer.get("is_binary"):
            return text.encode()
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ServiceUnavailable("a file came garbled", where=path) from error

    def exists(self, path: str) -> bool:
        return bool(self._names(path))

    def is_directory(self, path: str) -> bool:
        return not {".", ".."}.isdisjoint(self._names(path))

    def run(self, words: Sequence[str]) -> str:
        """Begin a command on a login node; the identifier of its task. The API splits it as a shell would."""
        form = {"executable": shlex.join(words)}
        answer = self._ask(lambda client: client.post(f"utilities/command/{self.machine}", form))
        self._accepted(answer)
        return _identifier(answer, "task_id")

    def user(self) -> str:
        """On whose behalf all of this is done."""
        return _identifier(self._ask(lambda client: client.get("account/")), "name")

    def _names(self, path: str) -> set[str]:
        """A file is listed as itself, by its path; a directory by what is in it; what is not there not at all."""
        answer = self._ask_maybe(lambda client: client.get(f"utilities/ls/{self.machine}/{quote(path)}"))
        found = (answer or {}).get("entries")
        entries = found if isinstance(found, list) else []
        return {str(each.get("name")) for each in entries if isinstance(each, dict)}

    def _rows(self, sacct: str, jobs: Sequence[str], user: str) -> list[Row]:
        words = [f"jobid={','.join(jobs)}"] if jobs else []
        words += [f"user={user}"] if user else []
        params = {"sacct": sacct, "cached": "false", "kwargs": words}
        answer = self._ask(lambda client: client.get(f"compute/jobs/{self.machine}", params))
        if "Invalid job id" in str(answer.get("error") or ""):
            return []
        self._accepted(answer)
        return rows(answer.get("output"), machine=self.machine)

    def _accepted(self, answer: Mapping[str, Json]) -> None:
        """Raises ServiceUnavailable for an answer that says ERROR: so the API speaks of itself, not of the job."""
        if str(answer.get("status") or "OK").upper() != "OK":
            said = " ".join(str(answer.get("error") or "").split())[:300]
            raise ServiceUnavailable(
                f"{self.machine} cannot be used now: {said or 'no reason is given'}", where=self.clients.site.api_url
            )

    def _ask(self, request: _Request) -> Document:
        return self.clients.call(lambda client: _document(request(client)), where=self.machine)

    def _ask_maybe(self, request: _Request) -> Document | None:
        """None for an answer 404: there is no such thing."""

        def ask(client: Verbs) -> Document | None:
            try:
                return _document(request(client))
            except foreign() as error:
                if status_of(error) == 404:
                    return None
                raise

        return self.clients.call(ask, where=self.machine)


def _document(response: httpx.Response) -> Document:
    found = response.json()
    if not isinstance(found, dict):
        raise ServiceUnavailable("the Superfacility API answered something else than an object")
    return found


def _identifier(answer: Mapping[str, Json], name: str) -> str:
    """What was done stays done if the answer does not name it: so this is a silence, not a refusal."""
    found = str(answer.get(name) or "")
    if not found:
        raise ServiceUnavailable(f"the Superfacility API answered without {name}")
    return found


def _task(answer: Mapping[str, Json]) -> Task:
    """The result is JSON in a string."""
    text = answer.get("result")
    try:
        found = json.loads(text) if isinstance(text, str) and text else {}
    except ValueError:
        found = None
    return Task(status=str(answer.get("status") or ""), result=found if isinstance(found, dict) else {"error": text})
