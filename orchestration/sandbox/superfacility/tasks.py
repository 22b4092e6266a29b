"""Tasks: what the API does not do at once. Their results are JSON in a string, as the real one gives them."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility import answers
from orchestration.sandbox.superfacility.knobs import Board
from orchestration.sandbox.superfacility.tokens import Tokens

_KIND = "sf-task"
_THREADS = 32
_MOMENT = 0.05
_NEW, _COMPLETED, _FAILED, _CANCELLED = "new", "completed", "failed", "cancelled"

Work: TypeAlias = Callable[[threading.Event], Document]
"""What a task does, in a thread; stops where the event is set. Returns the result."""


@dataclass(frozen=True)
class _Running:
    task: asyncio.Task[None]
    stop: threading.Event


class Tasks:
    """A task of a facility that was stopped meanwhile has failed: nobody knows whether it did its work."""

    def __init__(self, store: Store, tokens: Tokens, board: Board) -> None:
        self._store = store
        self._tokens = tokens
        self._board = board
        self._numbers = itertools.count(int(time.time() * 1000))
        self._running: dict[str, _Running] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="superfacility")

    def open(self) -> None:
        for key, document in self._store.every(_KIND):
            if document["status"] == _NEW:
                self._finish(key, _FAILED, _error("the task was lost when the API was restarted"))

    async def close(self) -> None:
        for running in list(self._running.values()):
            running.stop.set()
            running.task.cancel()
        await run_in_threadpool(self._pool.shutdown)

    def reset(self) -> None:
        """Stop all; the store is cleared by the caller."""
        for running in self._running.values():
            running.stop.set()

    async def start(self, user: str, work: Work, *, delay: float = 0.0) -> JSONResponse:
        """Begin a task on behalf of a user; the answer that names it.

        It is given a moment: the client library looks once at a task before it sleeps for a second.
        """
        key = str(next(self._numbers))
        self._store.put(_KIND, key, {"id": key, "user": user, "status": _NEW, "result": None})
        stop = threading.Event()
        task = asyncio.get_running_loop().create_task(self._carry_out(key, work, stop, delay))
        self._running[key] = _Running(task, stop)
        task.add_done_callback(lambda _: self._running.pop(key, None))
        if not delay:
            await asyncio.wait({task}, timeout=_MOMENT)
        return JSONResponse({"task_id": key, "status": "OK", "error": None})

    def routes(self) -> list[Route]:
        return [
            Route("/tasks", self.list_all),
            Route("/tasks/", self.list_all),
            Route("/tasks/{id}", self.show),
            Route("/tasks/{id}", self.cancel, methods=["DELETE"]),
        ]

    async def list_all(self, request: Request) -> JSONResponse:
        user = self._tokens.user(request)
        found = [_public(document) for _, document in self._store.every(_KIND) if document["user"] == user]
        return JSONResponse({"tasks": found})

    async def show(self, request: Request) -> JSONResponse:
        return JSONResponse(_public(self._of_user(request)))

    async def cancel(self, request: Request) -> JSONResponse:
        document = self._of_user(request)
        key = documents.text(document, "id")
        if document["status"] == _NEW:
            self._finish(key, _CANCELLED, None)
            if running := self._running.get(key):
                running.stop.set()
        return JSONResponse(_public(self._of_user(request)))

    async def _carry_out(self, key: str, work: Work, stop: threading.Event, delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)
        failure = self._board.take_failure()
        if failure and not failure.failing_late:
            self._finish(key, _FAILED, _error(failure.task_error))
            return
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, work, stop)
        except Exception as error:
            self._finish(key, _FAILED, _error(f"{type(error).__name__}: {error}"))
            raise
        if failure:
            self._finish(key, _FAILED, _error(failure.task_error))
        else:
            self._finish(key, _COMPLETED, result)

    def _finish(self, key: str, status: str, result: Document | None) -> None:
        """What was cancelled stays so."""
        document = self._store.get(_KIND, key)
        if document is not None and document["status"] == _NEW:
            text = None if result is None else json.dumps(result)
            self._store.put(_KIND, key, document | {"status": status, "result": text})

    def _of_user(self, request: Request) -> Document:
        """Raises: Refusal 404."""
        user = self._tokens.user(request)
        document = self._store.get(_KIND, request.path_params["id"])
        if document is None or document["user"] != user:
            raise answers.not_found()
        return document


def _error(text: str) -> Document:
    return {"status": "error", "error": text}


def _public(document: Document) -> Document:
    return {name: document[name] for name in ("id", "status", "result")}
