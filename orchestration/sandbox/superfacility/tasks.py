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
_LOOK = 0.02
"""Seconds between two looks whether a task that waits is to begin."""
_PATIENCE = 5.0
"""Seconds that a cancellation waits for the end of a task; clients wait twice as long for the answer."""
_NEW, _COMPLETED, _FAILED, _CANCELLED = "new", "completed", "failed", "cancelled"


class Stopped(Exception):
    """Raised by the work of a task that was told to stop, and has: what it did is nobody's result."""


Work: TypeAlias = Callable[[threading.Event], Document]
"""What a task does, in a thread; returns the result. Raises Stopped if it ends early because the event is set."""


def _at_once() -> float:
    return 0.0


@dataclass(frozen=True)
class _Running:
    task: asyncio.Task[None]
    stop: threading.Event
    over: threading.Event


class Tasks:
    """A task that is cancelled before its work began never does it; later, only work that can be stopped is cancelled.

    A task of a facility that was stopped meanwhile has failed: nobody knows whether it did its work.
    """

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
        """Stop all, and wait until none does anything any more; the store is cleared by the caller.

        To be called in another thread than that of the event loop.
        """
        running = list(self._running.values())
        for one in running:
            one.stop.set()
        for one in running:
            one.over.wait()

    async def start(self, user: str, work: Work, *, delay: Callable[[], float] = _at_once) -> JSONResponse:
        """Begin a task on behalf of a user; the answer that names it.

        `delay` says for how many seconds it waits before it does its work, and is asked again while it waits. Without
        one it is given a moment: the client library looks once at a task before it sleeps for a second.
        """
        key = str(next(self._numbers))
        self._store.put(_KIND, key, {"id": key, "user": user, "status": _NEW, "result": None})
        stop, over = threading.Event(), threading.Event()
        task = asyncio.get_running_loop().create_task(self._carry_out(key, work, stop, delay))
        self._running[key] = _Running(task, stop, over)

        def ended(_: asyncio.Task[None]) -> None:
            self._running.pop(key)
            over.set()

        task.add_done_callback(ended)
        if not delay():
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
        """Answers how it stands once it has stopped, or has done what could not be stopped."""
        key = documents.text(self._of_user(request), "id")
        if running := self._running.get(key):
            running.stop.set()
            await asyncio.wait({running.task}, timeout=_PATIENCE)
        return JSONResponse(_public(self._of_user(request)))

    async def _carry_out(self, key: str, work: Work, stop: threading.Event, delay: Callable[[], float]) -> None:
        await _passed(delay, stop)
        failure = None if stop.is_set() else self._board.take_failure()
        if failure and not failure.failing_late:
            self._finish(key, _FAILED, _error(failure.task_error))
            return
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, _done, work, stop)
        except Stopped:
            self._finish(key, _CANCELLED, None)
        except Exception as error:
            self._finish(key, _FAILED, _error(f"{type(error).__name__}: {error}"))
            raise
        else:
            if failure:
                self._finish(key, _FAILED, _error(failure.task_error))
            else:
                self._finish(key, _COMPLETED, result)

    def _finish(self, key: str, status: str, result: Document | None) -> None:
        """Unless a reset has forgotten it."""
        document = self._store.get(_KIND, key)
        if document is not None:
            text = None if result is None else json.dumps(result)
            self._store.put(_KIND, key, document | {"status": status, "result": text})

    def _of_user(self, request: Request) -> Document:
        """Raises: Refusal 404."""
        user = self._tokens.user(request)
        document = self._store.get(_KIND, request.path_params["id"])
        if document is None or document["user"] != user:
            raise answers.not_found()
        return document


async def _passed(delay: Callable[[], float], stop: threading.Event) -> None:
    """Once the delay, as it is by then, has passed, or the task is to stop."""
    began = time.monotonic()
    while not stop.is_set() and (left := began + delay() - time.monotonic()) > 0:
        await asyncio.sleep(min(left, _LOOK))


def _done(work: Work, stop: threading.Event) -> Document:
    """In its thread: what is cancelled by now is not begun."""
    if stop.is_set():
        raise Stopped
    return work(stop)


def _error(text: str) -> Document:
    return {"status": "error", "error": text}


def _public(document: Document) -> Document:
    return {name: document[name] for name in ("id", "status", "result")}
