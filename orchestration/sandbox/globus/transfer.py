"""Stand-in for Globus Transfer: submissions and tasks."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document
from orchestration.sandbox import clock, documents
from orchestration.sandbox.globus import answers
from orchestration.sandbox.globus.answers import ApiError, bad_request
from orchestration.sandbox.globus.collections import Collections
from orchestration.sandbox.globus.submission import Submissions, parse_deadline
from orchestration.sandbox.globus.tasks import Task, Tasks, as_json
from orchestration.sandbox.globus.tokens import TRANSFER, Token, Tokens
from orchestration.sandbox.globus.views import task_view

_CANCEL_SECONDS = 5.0
_MARKER_PAGE = 100


class Transfer:
    """Routes below ``/v0.10`` that concern tasks."""

    def __init__(self, submissions: Submissions, tasks: Tasks, collections: Collections, tokens: Tokens) -> None:
        self._submissions = submissions
        self._tasks = tasks
        self._collections = collections
        self._tokens = tokens

    def routes(self) -> list[Route]:
        task = "/v0.10/task/{id}"
        return [
            Route("/v0.10/submission_id", self.submission_id),
            Route("/v0.10/transfer", self.submit_transfer, methods=["POST"]),
            Route("/v0.10/delete", self.submit_delete, methods=["POST"]),
            Route("/v0.10/task_list", self.task_list),
            Route(task, self.get_task),
            Route(task, self.update_task, methods=["PUT"]),
            Route(f"{task}/cancel", self.cancel, methods=["POST"]),
            Route(f"{task}/event_list", self.event_list),
            Route(f"{task}/successful_transfers", self.successful_transfers),
            Route(f"{task}/skipped_errors", self.skipped_errors),
            Route(f"{task}/pause_info", self.pause_info),
        ]

    async def submission_id(self, request: Request) -> JSONResponse:
        self._who(request)
        return JSONResponse({"DATA_TYPE": "submission_id", "value": answers.new_id()})

    async def submit_transfer(self, request: Request) -> JSONResponse:
        return await self._submit(request, "TRANSFER")

    async def submit_delete(self, request: Request) -> JSONResponse:
        return await self._submit(request, "DELETE")

    async def _submit(self, request: Request, kind: str) -> JSONResponse:
        token = self._who(request)
        body = await answers.body(request)
        task, new = await run_in_threadpool(self._submissions.submit, token, kind, body)
        name = kind.lower()
        accepted = f"The {name} has been accepted and a task has been created and queued for execution"
        duplicate = f"A {name} with submission_id '{task.submission}' has already been accepted"
        link: Document = {
            "DATA_TYPE": "link",
            "href": f"/v0.10/task/{task.id}?format=json",
            "rel": "related",
            "resource": "task",
            "title": "related task",
        }
        return answers.result(
            request,
            "Accepted" if new else "Duplicate",
            accepted if new else duplicate,
            kind=f"{name}_result",
            status=202 if new else 200,
            submission_id=task.submission,
            task_id=task.id,
            task_link=link,
        )

    async def get_task(self, request: Request) -> JSONResponse:
        view = task_view(self._task(request), self._collections)
        return JSONResponse(documents.selected(view, _fields(request)))

    async def update_task(self, request: Request) -> JSONResponse:
        task, body = self._task(request), await answers.body(request)
        if task.status.ended:
            raise ApiError(409, "Conflict", f"Task '{task.id}' has completed and cannot be changed")
        deadline = documents.text(body, "deadline")
        with task.lock:
            task.label = documents.text(body, "label", task.label)
            if deadline:
                task.deadline = parse_deadline(deadline)
                task.body = task.body | {"deadline": deadline}
        self._tasks.save(task)
        task.wake.set()
        return answers.result(request, "Updated", f"Updated task '{task.id}' successfully")

    async def cancel(self, request: Request) -> JSONResponse:
        task = self._task(request)
        if not task.status.ended:
            task.cancelled = True
            self._tasks.save(task)
            task.wake.set()
            if not await run_in_threadpool(task.finished.wait, _CANCEL_SECONDS):
                message = "The cancel request was queued for processing."
                return answers.result(request, "CancelAccepted", message, status=202)
            if task.fatal == "CANCELED":
                return answers.result(request, "Canceled", "The task has been cancelled successfully.")
        return answers.result(request, "TaskComplete", "The task completed before the cancel request was processed.")

    async def task_list(self, request: Request) -> JSONResponse:
        token = self._who(request)
        rows = [task for task in self._tasks if task.owner == token.subject]
        for clause in _clauses(request):
            keep = _task_filter(clause)
            rows = [task for task in rows if keep(task)]
        rows.sort(key=lambda task: task.requested, reverse="ASC" not in request.query_params.get("orderby", "").upper())
        fields = _fields(request)
        views = [documents.selected(task_view(task, self._collections), fields) for task in rows]
        return answers.page(request, views, "task_list")

    async def event_list(self, request: Request) -> JSONResponse:
        events = [event.document() for event in reversed(self._task(request).events)]
        wanted = [clause for clause in _clauses(request) if clause.startswith("is_error:")]
        for clause in wanted:
            events = [event for event in events if event["is_error"] == clause.endswith(":1")]
        return answers.page(request, events, "event_list")

    async def successful_transfers(self, request: Request) -> JSONResponse:
        task = self._task(request)
        if not task.status.ended:
            raise bad_request(f"Task '{task.id}' is still in progress: successful transfers are not yet available")
        rows = list(self._tasks.arrived(task).values()) if task.is_transfer else []
        return _by_marker(request, rows, "successful_transfers")

    async def skipped_errors(self, request: Request) -> JSONResponse:
        return _by_marker(request, self._tasks.errors_skipped(self._task(request)), "skipped_errors")

    async def pause_info(self, request: Request) -> JSONResponse:
        task = self._task(request)
        ends = [self._collections.get(one) for one in (task.source, task.destination) if one]
        rules: list[Document] = [
            {"DATA_TYPE": "pause_rule_limited", "endpoint_id": one.id, "message": one.switches.paused}
            for one in ends
            if one.switches.paused
        ]
        empty: Document = {
            f"{end}_pause_message{share}": None for end in ("source", "destination") for share in ("", "_share")
        }
        return JSONResponse({"DATA_TYPE": "pause_info_limited", "pause_rules": as_json(rules)} | empty)

    def _who(self, request: Request) -> Token:
        return self._tokens.require(request, TRANSFER)

    def _task(self, request: Request) -> Task:
        token, task_id = self._who(request), request.path_params["id"]
        task = self._tasks.get(task_id)
        if task is None or task.owner != token.subject:
            raise ApiError(404, "ClientError.NotFound", f"No task found with id '{task_id}'")
        return task


def _fields(request: Request) -> list[str]:
    return request.query_params.get("fields", "").split(",")


def _clauses(request: Request) -> list[str]:
    """``filter=status:ACTIVE/type:DELETE``, in one parameter or several."""
    given = request.query_params.getlist("filter")
    return [clause for text in given for clause in text.split("/") if clause]


def _task_filter(clause: str) -> Callable[[Task], bool]:
    """Raises: ApiError 400 for a field that cannot be filtered by."""
    field, _, text = clause.partition(":")
    values = text.split(",")
    match field:
        case "status":
            return lambda task: task.status.value in values
        case "type":
            return lambda task: task.kind in values
        case "task_id":
            return lambda task: task.id in values
        case "label":
            return lambda task: any(_label_matches(task.label, value) for value in values)
        case "request_time":
            return _between(text, lambda task: clock.stamp(task.requested))
        case "completion_time":
            return _between(text, lambda task: clock.stamp(task.completed) if task.completed else "")
        case _:
            raise bad_request(f"Tasks cannot be filtered by '{field}'")


def _label_matches(label: str, wanted: str) -> bool:
    """``~pattern`` has wildcards and no case; anything else is exact; ``!`` negates."""
    if wanted.startswith("!"):
        return not _label_matches(label, wanted[1:])
    if wanted.startswith("~"):
        return fnmatch.fnmatchcase(label.lower(), wanted[1:].lower())
    return label == wanted.removeprefix("=")


def _between(text: str, moment: Callable[[Task], str]) -> Callable[[Task], bool]:
    first, _, last = text.partition(",")
    try:
        low, high = (clock.stamp(clock.parse(part)) if part else "" for part in (first, last))
    except ValueError as error:
        raise bad_request(f"not a range of times: {text!r}") from error
    return lambda task: bool(moment(task)) and low <= moment(task) and (not high or moment(task) <= high)


def _by_marker(request: Request, rows: list[Document], kind: str) -> JSONResponse:
    marker = answers.natural(request, "marker", 0)
    after = marker + _MARKER_PAGE
    head: Document = {"DATA_TYPE": kind, "marker": marker, "next_marker": after if after < len(rows) else None}
    return JSONResponse(head | {"DATA": as_json(rows[marker:after])})
