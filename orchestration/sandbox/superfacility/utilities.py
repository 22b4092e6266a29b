"""Small files and commands at the facility."""

from __future__ import annotations

import base64
import shlex
import threading

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox.superfacility import answers, commands, maintenance
from orchestration.sandbox.superfacility.answers import Refusal
from orchestration.sandbox.superfacility.files import Files, FilesError, absolute
from orchestration.sandbox.superfacility.knobs import Board, Service
from orchestration.sandbox.superfacility.scheduler import Output, Scheduler
from orchestration.sandbox.superfacility.tasks import Stopped, Tasks
from orchestration.sandbox.superfacility.tokens import Tokens

_HOSTS = ("dtns", "dtn01")
_MULTIPART = 64 * 1024
"""What the wrapping of an uploaded file may weigh."""


class Utilities:
    """`limit` is the size of the largest file that may be moved this way, in bytes."""

    def __init__(
        self,
        *,
        machine: str,
        tokens: Tokens,
        tasks: Tasks,
        scheduler: Scheduler,
        files: Files,
        board: Board,
        limit: int,
    ) -> None:
        self._machine = machine
        self._tokens = tokens
        self._tasks = tasks
        self._scheduler = scheduler
        self._files = files
        self._board = board
        self._limit = limit

    def routes(self) -> list[Route]:
        return [
            Route("/utilities/ls/{machine}/{path:path}", self.listing),
            Route("/utilities/download/{machine}/{path:path}", self.download),
            Route("/utilities/upload/{machine}/{path:path}", self.upload, methods=["PUT"]),
            Route("/utilities/command/{machine}", self.command, methods=["POST"]),
        ]

    async def listing(self, request: Request) -> JSONResponse:
        user, path = self._user(request), absolute(request.path_params["path"])
        rest: Document = {"file": None, "is_binary": False}
        if answer := self._down(request, {"entries": [], **rest}):
            return answer
        try:
            entries = await run_in_threadpool(self._files.listing, user, path)
        except FilesError as error:
            return JSONResponse({"status": "ERROR", "entries": [], "error": str(error), **rest})
        return JSONResponse({"status": "OK", "entries": entries, "error": None, **rest})

    async def download(self, request: Request) -> JSONResponse:
        user, path = self._user(request), absolute(request.path_params["path"])
        if answer := self._down(request, {"file": None, "is_binary": False}):
            return answer
        binary = answers.asked(request.query_params, "binary")
        try:
            content = await run_in_threadpool(self._files.content, user, path)
            file = base64.b64encode(content).decode() if binary else content.decode()
        except (FilesError, UnicodeDecodeError) as error:
            return JSONResponse({"status": "ERROR", "file": None, "is_binary": False, "error": str(error)})
        return JSONResponse({"status": "OK", "file": file, "is_binary": binary, "error": None})

    async def upload(self, request: Request) -> JSONResponse:
        user, path = self._user(request), absolute(request.path_params["path"])
        if answer := self._down(request, {"output": None}):
            return answer
        content = await self._uploaded(request)
        try:
            await run_in_threadpool(self._files.write, user, path, content)
        except FilesError as error:
            return JSONResponse({"status": "ERROR", "output": None, "error": str(error)})
        return JSONResponse({"status": "OK", "output": path, "error": None})

    async def command(self, request: Request) -> JSONResponse:
        """Not by a shell: what needs one has to call it."""
        user = self._user(request)
        if answer := self._down(request, {"task_id": ""}):
            return answer
        executable = answers.field(await request.form(), "executable")
        try:
            words = shlex.split(executable)
        except ValueError as error:
            raise Refusal(400, f"{executable!r} is not a command: {error}") from error
        if not words:
            raise Refusal(400, "the command is empty")

        def work(stop: threading.Event) -> Document:
            output = self._scheduler.run(user, words, stop=stop)
            if output.code == commands.STOPPED and stop.is_set():
                raise Stopped
            return _result(output)

        return await self._tasks.start(user, work)

    async def _uploaded(self, request: Request) -> bytes:
        """Raises: Refusal."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._limit + _MULTIPART:
            raise Refusal(413, "Request Entity Too Large")
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                problem: Json = {"loc": ["body", "file"], "msg": "field required", "type": "value_error.missing"}
                raise Refusal(422, [problem])
            content = await file.read()
        if len(content) > self._limit:
            raise Refusal(413, "Request Entity Too Large")
        return content

    def _user(self, request: Request) -> str:
        """Who asks, of a machine that there is. Raises: Refusal."""
        user = self._tokens.user(request)
        if request.path_params["machine"] not in (self._machine, *_HOSTS):
            raise answers.not_found()
        return user

    def _down(self, request: Request, shape: Document) -> JSONResponse | None:
        """What a maintenance answers on this machine, if there is one."""
        if request.path_params["machine"] != self._machine:
            return None
        return maintenance.down(self._board, Service.UTILITIES, shape)


def _result(output: Output) -> Document:
    return {
        "status": "error" if output.code else "ok",
        "output": output.stdout.decode(errors="replace"),
        "error": output.error,
        "exit_code": output.code,
    }
