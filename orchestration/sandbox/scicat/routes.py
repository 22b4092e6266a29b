"""Stand-in for a SciCat backend: its v3 half, and reading through v4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.scicat import answers, queries
from orchestration.sandbox.scicat.accounts import Accounts, User, user_view
from orchestration.sandbox.scicat.answers import refusal
from orchestration.sandbox.scicat.catalogue import Catalogue
from orchestration.sandbox.scicat.queries import Window

Handler = Callable[[Request], Awaitable[JSONResponse]]


class Backend:
    """Routes below ``/api/v3`` and ``/api/v4``; ``/Datasets`` is the same as ``/datasets``."""

    def __init__(self, accounts: Accounts, catalogue: Catalogue) -> None:
        self._accounts = accounts
        self._catalogue = catalogue

    def routes(self) -> list[Route]:
        return [
            self._route("/api/v3/auth/login", self.login, "POST"),
            self._route("/api/v3/auth/whoami", self.whoami),
            self._route("/api/v3/users/my/self", self.myself),
            *self._v3("datasets"),
            *self._v3("Datasets"),
            self._route("/api/v4/datasets", self.v4_list),
            self._route("/api/v4/datasets/public", self.v4_public),
            self._route("/api/v4/datasets/count", self.count),
            self._route("/api/v4/datasets/{pid:path}", self.v4_get),
        ]

    def _v3(self, name: str) -> list[Route]:
        every, one = f"/api/v3/{name}", f"/api/v3/{name}/{{pid:path}}"
        return [
            self._route(every, self.create, "POST"),
            self._route(every, self.find),
            self._route(f"{every}/fullquery", self.full_query),
            self._route(f"{every}/fullfacet", self.full_facet),
            self._route(f"{every}/count", self.count),
            self._route(f"{every}/findOne", self.find_one),
            self._route(f"{one}/origdatablocks", self.add_block, "POST"),
            self._route(f"{one}/origdatablocks", self.blocks),
            self._route(f"{one}/origdatablocks/{{oid}}", self.remove_block, "DELETE"),
            self._route(f"{one}/datablocks", self.add_archived, "POST"),
            self._route(f"{one}/datablocks", self.archived),
            self._route(f"{one}/datablocks/{{did}}", self.change_archived, "PATCH"),
            self._route(f"{one}/attachments", self.add_attachment, "POST"),
            self._route(f"{one}/attachments", self.attachments),
            self._route(f"{one}/thumbnail", self.thumbnail),
            self._route(one, self.get),
            self._route(one, self.change, "PATCH"),
            self._route(one, self.delete, "DELETE"),
        ]

    def _route(self, path: str, handler: Handler, method: str = "GET") -> Route:
        async def alive(request: Request) -> JSONResponse:
            if not self._catalogue.health.alive:
                raise refusal(503, "The backend's process has died", "Service Unavailable")
            return await handler(request)

        return Route(path, alive, methods=[method])

    async def login(self, request: Request) -> JSONResponse:
        body = await answers.body(request)
        answer = self._accounts.login(documents.text(body, "username"), documents.text(body, "password"))
        return JSONResponse(answer, status_code=201)

    async def whoami(self, request: Request) -> JSONResponse:
        """Empty, and not a refusal, for a bad token."""
        account = self._accounts.of(request).account
        return JSONResponse(user_view(account) if account else {})

    async def myself(self, request: Request) -> JSONResponse:
        """The one route that says of a bad token that it is bad."""
        account = self._accounts.of(request).account
        if account is None:
            raise refusal(401, "Unauthorized")
        return JSONResponse(user_view(account))

    async def create(self, request: Request) -> JSONResponse:
        user, body = self._accounts.require(request), await answers.body(request)
        return JSONResponse(self._catalogue.create(user, body), status_code=201)

    async def find(self, request: Request) -> JSONResponse:
        return JSONResponse(self._found(request, self._accounts.of(request)))

    async def find_one(self, request: Request) -> JSONResponse:
        found = self._found(request, self._accounts.of(request))
        return JSONResponse(found[0] if found else {})

    async def get(self, request: Request) -> JSONResponse:
        return JSONResponse(self._catalogue.get(self._accounts.of(request), request.path_params["pid"]))

    async def full_query(self, request: Request) -> JSONResponse:
        holds = queries.full_query(queries.parse(request.query_params.get("fields")))
        window = Window.parse(queries.parse(request.query_params.get("limits")))
        rows = (row for row in self._catalogue.visible(self._accounts.of(request)) if holds(row))
        return JSONResponse(window.of(rows))

    async def full_facet(self, request: Request) -> JSONResponse:
        holds = queries.full_query(queries.parse(request.query_params.get("fields")))
        rows = [row for row in self._catalogue.visible(self._accounts.of(request)) if holds(row)]
        wanted = queries.parse('{"facets": ' + request.query_params.get("facets", "[]") + "}")
        answer: Document = {"all": [{"totalSets": len(rows)}]}
        for facet in documents.strings(wanted, "facets"):
            counted = Counter(one for row in rows for one in _each(row.get(facet)))
            answer[facet] = [{"_id": value, "count": count} for value, count in counted.most_common()]
        return JSONResponse([answer])

    async def count(self, request: Request) -> JSONResponse:
        given = queries.parse(request.query_params.get("filter"))
        where = queries.parse(request.query_params.get("where")) or documents.object_at(given, "where")
        visible = self._catalogue.visible(self._accounts.of(request))
        return JSONResponse({"count": sum(queries.matches(row, where) for row in visible)})

    async def change(self, request: Request) -> JSONResponse:
        user, body = self._accounts.require(request), await answers.body(request)
        since = request.headers.get("if-unmodified-since", "")
        changed = self._catalogue.change(user, request.path_params["pid"], body, unmodified_since=since)
        return JSONResponse(changed)

    async def delete(self, request: Request) -> JSONResponse:
        user = self._accounts.require(request)
        return JSONResponse(self._catalogue.delete(user, request.path_params["pid"]))

    async def add_block(self, request: Request) -> JSONResponse:
        user, body = self._accounts.require(request), await answers.body(request)
        return JSONResponse(self._catalogue.add_block(user, request.path_params["pid"], body), status_code=201)

    async def remove_block(self, request: Request) -> JSONResponse:
        user = self._accounts.require(request)
        pid, oid = request.path_params["pid"], request.path_params["oid"]
        return JSONResponse(self._catalogue.remove_block(user, pid, oid))

    async def blocks(self, request: Request) -> JSONResponse:
        return JSONResponse(self._catalogue.blocks(self._accounts.of(request), request.path_params["pid"]))

    async def add_archived(self, request: Request) -> JSONResponse:
        user, body = self._accounts.require(request), await answers.body(request)
        return JSONResponse(self._catalogue.add_archived(user, request.path_params["pid"], body), status_code=201)

    async def change_archived(self, request: Request) -> JSONResponse:
        user, body = self._accounts.require(request), await answers.body(request)
        pid, did = request.path_params["pid"], request.path_params["did"]
        return JSONResponse(self._catalogue.change_archived(user, pid, did, body))

    async def archived(self, request: Request) -> JSONResponse:
        return JSONResponse(self._catalogue.archived(self._accounts.of(request), request.path_params["pid"]))

    async def add_attachment(self, request: Request) -> JSONResponse:
        user, body = self._accounts.require(request), await answers.body(request)
        return JSONResponse(self._catalogue.add_attachment(user, request.path_params["pid"], body), status_code=201)

    async def attachments(self, request: Request) -> JSONResponse:
        return JSONResponse(self._catalogue.attachments(self._accounts.of(request), request.path_params["pid"]))

    async def thumbnail(self, request: Request) -> JSONResponse:
        """That of the first attachment; an empty object where there is none."""
        attachments = self._catalogue.attachments(self._accounts.of(request), request.path_params["pid"])
        return JSONResponse({"thumbnail": attachments[0]["thumbnail"]} if attachments else {})

    async def v4_list(self, request: Request) -> JSONResponse:
        user = self._accounts.require(request)
        return JSONResponse(self._found(request, user, v4=True))

    async def v4_public(self, request: Request) -> JSONResponse:
        return JSONResponse(self._found(request, User(), v4=True))

    async def v4_get(self, request: Request) -> JSONResponse:
        user = self._accounts.require(request)
        dataset = self._catalogue.get(user, request.path_params["pid"])
        include = queries.parse(request.query_params.get("filter"))
        wanted = documents.strings(include, "include") or request.query_params.getlist("include")
        return JSONResponse(self._v4_view(user, dataset, wanted))

    def _found(self, request: Request, user: User, *, v4: bool = False) -> list[Document]:
        given = queries.parse(request.query_params.get("filter"))
        include = documents.strings(given, "include")
        rows = self._catalogue.visible(user)
        seen = (self._v4_view(user, row, include) for row in rows) if v4 else rows
        where = documents.object_at(given, "where")
        window = Window.parse(documents.object_at(given, "limits") or given)
        return [queries.projected(row, given) for row in window.of(row for row in seen if queries.matches(row, where))]

    def _v4_view(self, user: User, dataset: Document, include: list[str]) -> Document:
        view = v4_names(dataset)
        pid = documents.text(dataset, "pid")
        if {"origdatablocks", "all"} & set(include):
            view["origdatablocks"] = list[Json](self._catalogue.blocks(user, pid))
        if {"attachments", "all"} & set(include):
            view["attachments"] = list[Json](self._catalogue.attachments(user, pid))
        return view


_PLURALS = {
    "principalInvestigator": "principalInvestigators",
    "proposalId": "proposalIds",
    "sampleId": "sampleIds",
    "instrumentId": "instrumentIds",
}


def v4_names(dataset: Document) -> Document:
    """v4 has lists where v3 has one; a derived dataset without a proposal has the list [null]."""
    view = {name: value for name, value in dataset.items() if name not in _PLURALS}
    for single, plural in _PLURALS.items():
        value = dataset.get(single)
        view[plural] = [value] if value is not None else []
    if dataset["type"] == "derived":
        view["proposalIds"] = [dataset.get("proposalId")]
        investigator = dataset.get("investigator")
        view["principalInvestigators"] = [investigator] if investigator else view["principalInvestigators"]
    return view | {"version": dataset.get("version") or "v3"}


def _each(value: Json) -> list[str]:
    rows = value if isinstance(value, list) else [value]
    return [row for row in rows if isinstance(row, str)]
