"""Globus transfers that the API starts between the facility's own machines: here copies on one file system."""

from __future__ import annotations

import threading
import time
import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document
from orchestration.sandbox import clock
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility import answers
from orchestration.sandbox.superfacility.answers import Refusal
from orchestration.sandbox.superfacility.files import Files, FilesError
from orchestration.sandbox.superfacility.tasks import Tasks
from orchestration.sandbox.superfacility.tokens import Tokens

_KIND = "sf-transfer"


class Transfers:
    def __init__(self, *, store: Store, tokens: Tokens, tasks: Tasks, files: Files, machine: str) -> None:
        self._store = store
        self._tokens = tokens
        self._tasks = tasks
        self._files = files
        self._machines = {machine, "dtn", "hpss"}

    def routes(self) -> list[Route]:
        return [
            Route("/storage/globus/transfer", self.start, methods=["POST"]),
            Route("/storage/globus/transfer/{id}", self.show),
        ]

    def open(self) -> None:
        """Nobody goes on with what was under way when the facility was stopped."""
        for key, document in self._store.every(_KIND):
            if document["globus_status"] == "ACTIVE":
                self._finish(key, "FAILED", reason="the transfer was interrupted")

    async def start(self, request: Request) -> JSONResponse:
        user = self._tokens.user(request)
        form = await request.form()
        names = ("source_uuid", "target_uuid", "source_dir", "target_dir")
        source_machine, target_machine, source, target = (answers.field(form, name) for name in names)
        for machine in (source_machine, target_machine):
            if machine not in self._machines:
                raise Refusal(400, f"{machine} is none of the machines {', '.join(sorted(self._machines))}")
        key = str(uuid.uuid4())
        self._store.put(_KIND, key, {"user": user, "reason": None, "globus_status": "ACTIVE", "bytes_transferred": 0})

        def work(_: threading.Event) -> Document:
            self._copy(key, user, source, target)
            return {}

        await self._tasks.start(user, work)
        return JSONResponse({"transfer_id": key, "status": "OK", "reason": None})

    async def show(self, request: Request) -> JSONResponse:
        user = self._tokens.user(request)
        found = self._store.get(_KIND, request.path_params["id"])
        if found is None or found["user"] != user:
            raise answers.not_found()
        body: Document = {
            "status": "OK",
            "reason": found["reason"],
            "globus_status": found["globus_status"],
            "bytes_transferred": found["bytes_transferred"],
            "completion_time": found.get("completion_time"),
            "effective_bytes_per_second": found.get("effective_bytes_per_second"),
        }
        return JSONResponse(body)

    def _copy(self, key: str, user: str, source: str, target: str) -> None:
        began = time.monotonic()
        try:
            self._files.copy(user, source, target)
            size = self._files.size(user, source)
        except FilesError as error:
            self._finish(key, "FAILED", reason=str(error))
            return
        rate = int(size / max(time.monotonic() - began, 1e-3))
        self._finish(key, "SUCCEEDED", bytes_transferred=size, effective_bytes_per_second=rate)

    def _finish(self, key: str, status: str, **more: str | int) -> None:
        document = self._store.get(_KIND, key) or {}
        ended: Document = {"globus_status": status, "completion_time": clock.stamp()}
        self._store.put(_KIND, key, document | ended | dict(more))
