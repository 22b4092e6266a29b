"""Jobs: submitting them, asking for them, cancelling them."""

from __future__ import annotations

import threading
import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.superfacility import answers, maintenance
from orchestration.sandbox.superfacility.answers import Refusal
from orchestration.sandbox.superfacility.knobs import Board, Service
from orchestration.sandbox.superfacility.scheduler import JobRow, Query, Refused, Scheduler, Script
from orchestration.sandbox.superfacility.tasks import Tasks
from orchestration.sandbox.superfacility.tokens import Tokens

SUBMITTED = "job"
"""Kind of the effect of a submission that was accepted: its key is the name of the job, its id the job's."""

_WORDS = ("jobid", "user", "partition")

_AT_SUBMISSION = {
    "state": "PENDING",
    "nodelist": "None assigned",
    "start": "Unknown",
    "end": "Unknown",
    "exitcode": "0:0",
}
"""Columns of sacct that change later."""


class Compute:
    def __init__(
        self,
        *,
        machine: str,
        tokens: Tokens,
        tasks: Tasks,
        scheduler: Scheduler,
        board: Board,
        effects: Effects,
    ) -> None:
        self._machine = machine
        self._tokens = tokens
        self._tasks = tasks
        self._scheduler = scheduler
        self._board = board
        self._effects = effects

    def routes(self) -> list[Route]:
        return [
            Route("/compute/jobs/{machine}", self.list_jobs),
            Route("/compute/jobs/{machine}", self.submit, methods=["POST"]),
            Route("/compute/jobs/{machine}/{id}", self.show),
            Route("/compute/jobs/{machine}/{id}", self.cancel, methods=["DELETE"]),
        ]

    async def submit(self, request: Request) -> JSONResponse:
        user = self._allowed(request)
        if answer := self._down({"task_id": ""}):
            return answer
        form = await request.form()
        is_path, job = answers.truth(answers.field(form, "isPath")), answers.field(form, "job")
        script = Script(path=job, arguments=answers.texts(form, "args")) if is_path else Script(text=job)
        work = _Submission(self._scheduler, self._effects, user=user, script=script)
        return await self._tasks.start(user, work, delay=lambda: self._board.now.submit_delay)

    async def list_jobs(self, request: Request) -> JSONResponse:
        user = self._allowed(request)
        if answer := self._down({"output": []}):
            return answer
        query = request.query_params
        words = [word.partition("=") for word in query.getlist("kwargs")]
        unknown = [name for name, _, _ in words if name not in _WORDS]
        if unknown:
            raise Refusal(422, f"unknown in kwargs: {', '.join(unknown)}; known are {', '.join(_WORDS)}")
        wanted = {name: value for name, _, value in words}
        found = await self._found(user, _query(wanted), sacct=answers.asked(query, "sacct"))
        first, count = answers.natural(query, "index") or 0, answers.natural(query, "limit")
        rows = found["output"]
        if isinstance(rows, list):
            found["output"] = rows[first : first + count if count else None]
        return JSONResponse(found)

    async def show(self, request: Request) -> JSONResponse:
        user = self._allowed(request)
        if answer := self._down({"output": []}):
            return answer
        query = _query({"jobid": request.path_params["id"]})
        return JSONResponse(await self._found(user, query, sacct=answers.asked(request.query_params, "sacct")))

    async def cancel(self, request: Request) -> JSONResponse:
        user = self._allowed(request)
        if answer := self._down({"task_id": ""}):
            return answer
        job = request.path_params["id"]

        def work(_: threading.Event) -> Document:
            try:
                self._scheduler.cancel(user, job)
            except Refused as error:
                return {"status": "error", "output": None, "error": error.text}
            return {"status": "ok", "output": "", "error": None}

        return await self._tasks.start(user, work)

    def _allowed(self, request: Request) -> str:
        """Who asks, of a machine that there is. Raises: Refusal."""
        user = self._tokens.user(request)
        if request.path_params["machine"] != self._machine:
            raise answers.not_found()
        return user

    def _down(self, shape: Document) -> JSONResponse | None:
        return maintenance.down(self._board, Service.COMPUTE, shape)

    async def _found(self, user: str, query: Query, *, sacct: bool) -> Document:
        ask = self._scheduler.accounting if sacct else self._scheduler.queue
        try:
            rows = await run_in_threadpool(ask, user, query)
        except Refused as error:
            return {"status": "ERROR", "output": [], "error": error.text}
        found: list[Json] = [fields for row in rows if (fields := self._seen(row, sacct=sacct)) is not None]
        return {"status": "OK", "output": found, "error": None}

    def _seen(self, row: JobRow, *, sacct: bool) -> dict[str, Json] | None:
        """The columns of a job as the knobs let it be seen now; None if they do not."""
        knobs, now = self._board.now, time.time()
        if row.submitted + knobs.hidden > now or row.fields.get("jobid") in knobs.forgotten:
            return None
        if not sacct or not knobs.sacct_lag or (row.ended is not None and row.ended + knobs.sacct_lag <= now):
            return dict(row.fields)
        return {**row.fields, **_AT_SUBMISSION} if knobs.sacct_stale else None


class _Submission:
    """The task of one submission."""

    def __init__(self, scheduler: Scheduler, effects: Effects, *, user: str, script: Script) -> None:
        self._scheduler = scheduler
        self._effects = effects
        self._user = user
        self._script = script

    def __call__(self, _: threading.Event) -> Document:
        try:
            accepted = self._scheduler.submit(self._user, self._script)
        except Refused as error:
            return {"status": "error", "jobid": None, "error": error.text}
        self._effects.happened(SUBMITTED, accepted.id, key=accepted.name, label=self._user)
        return {"status": "ok", "jobid": accepted.id, "error": None}


def _query(wanted: dict[str, str]) -> Query:
    jobs = tuple(filter(None, wanted["jobid"].split(","))) if "jobid" in wanted else None
    return Query(jobs=jobs, user=wanted.get("user", ""), partition=wanted.get("partition", ""))
