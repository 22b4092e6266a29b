"""Stand-in for Globus Search: its routes below ``/v1``."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.search import answers, queries
from orchestration.sandbox.search.answers import SearchError, invalid
from orchestration.sandbox.search.callers import IDENTITY, Caller, Callers, forbidden
from orchestration.sandbox.search.entries import Entry, Index, Indexes
from orchestration.sandbox.search.tasks import TaskType, Worker
from orchestration.sandbox.search.words import selection


class SearchRoutes:
    def __init__(self, indexes: Indexes, worker: Worker, callers: Callers) -> None:
        self._indexes = indexes
        self._worker = worker
        self._callers = callers

    def routes(self) -> list[Route]:
        index = "/v1/index/{index}"
        return [
            Route("/v1/index", self.create, methods=["POST"]),
            Route("/v1/index_list", self.index_list),
            Route(index, self.info, methods=["GET"]),
            Route(f"{index}/ingest", self.ingest, methods=["POST"]),
            Route(f"{index}/search", self.get_search, methods=["GET"]),
            Route(f"{index}/search", self.post_search, methods=["POST"]),
            Route(f"{index}/scroll", self.scroll, methods=["POST"]),
            Route(f"{index}/subject", self.subject, methods=["GET"]),
            Route(f"{index}/subject", self.delete_subject, methods=["DELETE"]),
            Route(f"{index}/entry", self.entry, methods=["GET"]),
            Route(f"{index}/entry", self.delete_entry, methods=["DELETE"]),
            Route(f"{index}/delete_by_query", self.delete_by_query, methods=["POST"]),
            Route(f"{index}/batch_delete_by_subject", self.delete_subjects, methods=["POST"]),
            Route("/v1/task/{task}", self.task),
            Route("/v1/task_list/{index}", self.task_list),
        ]

    async def create(self, request: Request) -> JSONResponse:
        caller, body = self._callers.known(request), await answers.body(request)
        for name in ("display_name", "description"):
            if not documents.text(body, name):
                raise invalid((name,), "Missing data for required field.")
        owner = next(one for one in caller.principals if one.startswith(IDENTITY))
        index = self._indexes.create(
            documents.text(body, "display_name"), documents.text(body, "description"), owner=owner
        )
        return JSONResponse(index.view())

    async def index_list(self, request: Request) -> JSONResponse:
        caller = self._callers.known(request)
        roles = {index.id: list[Json](caller.roles(index.settings)) for index in self._indexes.every()}
        rows = [index.view() | {"permissions": roles[index.id]} for index in self._indexes.every() if roles[index.id]]
        return JSONResponse({"index_list": rows})

    async def info(self, request: Request) -> JSONResponse:
        return JSONResponse(self._index(request).view())

    async def ingest(self, request: Request) -> JSONResponse:
        index = self._written(request)
        entries = _gmeta(await answers.body(request))
        rows: list[Json] = [entry.document() for entry in entries]
        return self._accepted(index, TaskType.INGEST, {"gmeta": rows}, about=entries[0].subject if entries else "")

    async def get_search(self, request: Request) -> JSONResponse:
        query: Document = dict(request.query_params)
        for name in ("limit", "offset"):
            text = str(query.get(name, ""))
            query[name] = int(text) if text.isdigit() else query.get(name, 10 if name == "limit" else 0)
        for name in ("advanced", "bypass_visible_to"):
            query[name] = str(query.get(name)).lower() == "true"
        return JSONResponse(await run_in_threadpool(queries.search, query, self._visible(request, query)))

    async def post_search(self, request: Request) -> JSONResponse:
        query = await answers.body(request)
        return JSONResponse(await run_in_threadpool(queries.search, query, self._visible(request, query)))

    async def scroll(self, request: Request) -> JSONResponse:
        query = await answers.body(request)
        return JSONResponse(await run_in_threadpool(queries.scroll, query, self._visible(request, query)))

    async def subject(self, request: Request) -> JSONResponse:
        subject = answers.parameter(request, "subject")
        found = [entry for entry in self._visible(request, _asked(request)) if entry.subject == subject]
        if not found:
            raise SearchError(404, "NotFound.Generic", f"No subject {subject!r} in the index")
        return JSONResponse(queries.result(subject, found))

    async def entry(self, request: Request) -> JSONResponse:
        subject, id_ = answers.parameter(request, "subject"), request.query_params.get("entry_id")
        visible = self._visible(request, _asked(request))
        found = [entry for entry in visible if (entry.subject, entry.id) == (subject, id_)]
        if not found:
            raise SearchError(404, "NotFound.Generic", f"No entry {id_!r} of {subject!r} in the index")
        return JSONResponse(queries.result(subject, found))

    async def delete_subject(self, request: Request) -> JSONResponse:
        index, subject = self._written(request), answers.parameter(request, "subject")
        return self._accepted(index, TaskType.BY_SUBJECT, {"subjects": [subject]}, about=subject)

    async def delete_subjects(self, request: Request) -> JSONResponse:
        index, body = self._written(request), await answers.body(request)
        subjects = list[Json](documents.strings(body, "subjects"))
        return self._accepted(index, TaskType.BY_SUBJECT, {"subjects": subjects}, about=str(subjects))

    async def delete_entry(self, request: Request) -> JSONResponse:
        index, subject = self._written(request), answers.parameter(request, "subject")
        body: Document = {"subject": subject, "entry_id": request.query_params.get("entry_id")}
        return self._accepted(index, TaskType.BY_ENTRY, body, about=subject)

    async def delete_by_query(self, request: Request) -> JSONResponse:
        index, body = self._written(request), await answers.body(request)
        selection(body)  # what is wrong with it is said now
        return self._accepted(index, TaskType.BY_QUERY, body, about=documents.text(body, "q"))

    async def task(self, request: Request) -> JSONResponse:
        caller, task = self._callers.known(request), self._worker.get(request.path_params["task"])
        if task is None:
            raise SearchError(404, "NotFound.Generic", f"There is no task {request.path_params['task']}")
        _demand_writer(caller, self._indexes.get(task.index))
        return JSONResponse(task.view())

    async def task_list(self, request: Request) -> JSONResponse:
        caller, index = self._callers.known(request), self._index(request)
        _demand_writer(caller, index)
        rows = [task.view() for task in self._worker.of_index(index.id)]
        return JSONResponse({"index_id": index.id, "tasks": rows})

    def _index(self, request: Request) -> Index:
        self._callers.anyone(request)
        return self._indexes.get(request.path_params["index"])

    def _written(self, request: Request) -> Index:
        index = self._index(request)
        self._callers.writer(request, index.settings)
        return index

    def _visible(self, request: Request, query: Document) -> list[Entry]:
        index, caller = self._index(request), self._callers.anyone(request)
        if documents.flag(query, "bypass_visible_to"):
            if "owner" not in caller.roles(index.settings):
                raise forbidden("bypass_visible_to is for the owners of the index")
            return index.snapshot()
        return [entry for entry in index.snapshot() if caller.sees(entry.visible_to)]

    def _accepted(self, index: Index, type_: TaskType, body: Document, *, about: str) -> JSONResponse:
        task = self._worker.accept(index, type_, body, about=about)
        return JSONResponse({"acknowledged": True, "task_id": task.id})


def _demand_writer(caller: Caller, index: Index) -> None:
    if not caller.roles(index.settings):
        raise forbidden("You do not have the proper roles to perform this operation.")


def _asked(request: Request) -> Document:
    return {"bypass_visible_to": request.query_params.get("bypass_visible_to", "").lower() == "true"}


def _gmeta(body: Document) -> list[Entry]:
    """The entries of a GIngest document. Raises: SearchError 400."""
    data = body.get("ingest_data")
    if not isinstance(data, dict):
        raise invalid(("ingest_data",), "Missing data for required field.")
    match body.get("ingest_type"):
        case "GMetaEntry":
            return [Entry.parse(data, ("ingest_data",))]
        case "GMetaList":
            return [Entry.parse(row, ("ingest_data", "gmeta")) for row in documents.objects(data, "gmeta")]
        case _:
            raise invalid(("ingest_type",), "Must be one of: GMetaEntry, GMetaList.")
