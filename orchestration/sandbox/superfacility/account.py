"""Who uses the facility, in which groups, and what is left of their projects."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility import answers
from orchestration.sandbox.superfacility.answers import Refusal
from orchestration.sandbox.superfacility.clients import Clients
from orchestration.sandbox.superfacility.knobs import Board
from orchestration.sandbox.superfacility.scheduler import Person, Scheduler, UnknownUser
from orchestration.sandbox.superfacility.settings import Project
from orchestration.sandbox.superfacility.tokens import Tokens

_GROUP = "sf-group"
_FIRST_GID = 90_000
_NEVER = "2099-01-01T00:00:00Z"


class Account:
    def __init__(
        self,
        *,
        store: Store,
        tokens: Tokens,
        clients: Clients,
        scheduler: Scheduler,
        projects: tuple[Project, ...],
        board: Board,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._clients = clients
        self._scheduler = scheduler
        self._projects = projects
        self._board = board

    def routes(self) -> list[Route]:
        return [
            Route("/account", self.person),
            Route("/account/", self.person),
            Route("/account/groups", self.groups),
            Route("/account/groups", self.create_group, methods=["POST"]),
            Route("/account/groups/{name}", self.group),
            Route("/account/groups/{name}", self.change_group, methods=["PUT"]),
            Route("/account/projects", self.projects),
            Route("/account/roles", self.roles),
            Route("/account/clients", self.clients),
        ]

    async def person(self, request: Request) -> JSONResponse:
        user = self._tokens.user(request)
        known = self._person(request.query_params.get("username", user))
        first, _, last = known.full_name.partition(" ")
        body: Document = {
            "uid": known.uid,
            "name": known.name,
            "firstname": first or known.name,
            "lastname": last,
            "middlename": "",
            "workphone": "",
            "otherPhones": "",
            "email": f"{known.name}@sandbox.example",
        }
        return JSONResponse(body)

    async def groups(self, request: Request) -> JSONResponse:
        person = self._person(self._tokens.user(request))
        member: Document = {"uid": person.uid, "name": person.name}
        rows: list[Document] = [{"gid": one.gid, "name": one.name, "users": [member]} for one in person.groups]
        made = [document for _, document in self._store.every(_GROUP)]
        rows += [row for row in made if member in documents.objects(row, "users")]
        return JSONResponse({"groups": rows})

    async def create_group(self, request: Request) -> JSONResponse:
        self._tokens.user(request)
        form = await request.form()
        name = answers.field(form, "name")
        answers.field(form, "repo_name")
        gid = _FIRST_GID + len(self._store.every(_GROUP))
        if not self._store.add(_GROUP, name, {"gid": gid, "name": name, "users": []}):
            raise Refusal(400, f"Group {name} exists already")
        return JSONResponse(self._store.get(_GROUP, name))

    async def group(self, request: Request) -> JSONResponse:
        user = self._tokens.user(request)
        return JSONResponse(self._group(user, request.path_params["name"]))

    async def change_group(self, request: Request) -> JSONResponse:
        self._tokens.user(request)
        form = await request.form()
        known = self._store.get(_GROUP, request.path_params["name"])
        if known is None:
            raise answers.not_found()
        action = answers.field(form, "action")
        if action not in {"batch_add", "batch_remove"}:
            raise Refusal(422, "action must be batch_add or batch_remove")
        named = [self._person(name) for name in answers.field(form, "usernames").split(",") if name]
        names = {person.name for person in named}
        users: list[Json] = [row for row in documents.objects(known, "users") if row["name"] not in names]
        if action == "batch_add":
            users += [{"uid": person.uid, "name": person.name} for person in named]
        changed: Document = known | {"users": users}
        self._store.put(_GROUP, documents.text(known, "name"), changed)
        return JSONResponse(changed)

    async def projects(self, request: Request) -> JSONResponse:
        self._tokens.user(request)
        rows = [self._project(number, project) for number, project in enumerate(self._projects, start=1)]
        return JSONResponse(rows)

    async def roles(self, request: Request) -> JSONResponse:
        self._tokens.user(request)
        return JSONResponse([_role(number, project) for number, project in enumerate(self._projects, start=1)])

    async def clients(self, request: Request) -> JSONResponse:
        user = self._tokens.user(request)
        rows = [
            {"name": one.name, "clientId": one.id, "expiresAt": _stamp(one.expires), "comments": None}
            for one in self._clients.every()
            if one.user == user
        ]
        return JSONResponse(rows)

    def _project(self, number: int, project: Project) -> Document:
        given = project.hours
        used = max(0.0, given - self._board.now.hours_left.get(project.name, given))
        kinds = ("", "project_", "cpu_", "cpu_project_", "gpu_", "gpu_project_")
        hours: Document = {}
        for kind in kinds:
            hours |= {f"{kind}hours_given": given, f"{kind}hours_used": used}
        return _role(number, project) | hours | {"projdir_usage": [], "hpss_usage": []}

    def _group(self, user: str, name: str) -> Document:
        if known := self._store.get(_GROUP, name):
            return known
        person = self._person(user)
        for one in person.groups:
            if one.name == name:
                return {"gid": one.gid, "name": name, "users": [{"uid": person.uid, "name": person.name}]}
        raise answers.not_found()

    def _person(self, name: str) -> Person:
        """Raises: Refusal 404."""
        try:
            return self._scheduler.person(name)
        except UnknownUser as error:
            raise answers.not_found() from error


def _role(number: int, project: Project) -> Document:
    return {
        "id": number,
        "description": project.description,
        "repo_name": project.name,
        "iris_role": "user",
    }


def _stamp(expires: float | None) -> str:
    return _NEVER if expires is None else datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
