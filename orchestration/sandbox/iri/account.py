"""Who asks, and what their projects may still use."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestration.ledger.service import Document, Json
from orchestration.sandbox.globus.tokens import Tokens
from orchestration.sandbox.iri import status
from orchestration.sandbox.iri.calls import Call, Operation, Page, Text
from orchestration.sandbox.iri.inventory import BUILT, CAPABILITIES, Capability, identifier
from orchestration.sandbox.iri.knobs import Knobs
from orchestration.sandbox.iri.problems import Problem, not_found
from orchestration.sandbox.iri.settings import IriSettings
from orchestration.sandbox.iri.status import Nothing, Since
from orchestration.sandbox.iri.version import Unit

_BYTES = 20e12


class CapabilityQuery(Page, Since):
    name: Text | None = None


class Accounts:
    """`used` says how many node hours the jobs of an account have had."""

    def __init__(self, settings: IriSettings, tokens: Tokens, knobs: Knobs, *, used: Callable[[str], float]) -> None:
        self._settings = settings
        self._tokens = tokens
        self._knobs = knobs
        self._used = used

    def user(self, request: Request) -> str:
        """Whose token it is. Raises: Problem 401."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        static = self._knobs.token or self._settings.token
        known = secrets.compare_digest(secret.encode(), static.encode()) or self._tokens.get(secret) is not None
        if scheme.lower() != "bearer" or not secret or not known:
            raise Problem(401, "Bearer token is missing or invalid.", headers={"WWW-Authenticate": "Bearer"})
        return self._settings.user

    def operations(self) -> list[Operation]:
        project = "/account/projects/{project_id}"
        allocations = f"{project}/project_allocations"
        allocation = f"{allocations}/{{project_allocation_id}}"
        users = f"{allocation}/user_allocations"
        rows: list[tuple[str, str, Callable[[Call], JSONResponse], bool]] = [
            ("getCapabilities", "/account/capabilities", self.capabilities, True),
            ("getCapability", "/account/capabilities/{capability_id}", self.capability, True),
            ("getProjects", "/account/projects", self.projects, False),
            ("getProject", project, self.project, False),
            ("getProjectAllocationsByProject", allocations, self.allocations, False),
            ("getProjectAllocationByProject", allocation, self.allocation, False),
            ("getUserAllocationsByProjectAllocation", users, self.user_allocations, False),
            ("getUserAllocationByProjectAllocation", f"{users}/{{user_allocation_id}}", self.user_allocation, False),
        ]
        return [
            Operation(name=name, method="GET", path=path, handler=handler, public=public)
            for name, path, handler, public in rows
        ]

    def capabilities(self, call: Call) -> JSONResponse:
        asked = call.query(CapabilityQuery)
        rows = [each.view(call.version, call.base) for each in CAPABILITIES]
        wanted = [row for row in rows if asked.name is None or asked.name.lower() in str(row["name"]).lower()]
        return JSONResponse(status.part(status.newer(wanted, asked.modified_since), asked))

    def capability(self, call: Call) -> JSONResponse:
        since = call.query(Since).modified_since
        found = next((each for each in CAPABILITIES if each.id == call.path("capability_id")), None)
        if found is None:
            raise not_found("Capability")
        return JSONResponse(status.fresh(found.view(call.version, call.base), since))

    def projects(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        return JSONResponse([self._project(call, name) for name in self._settings.accounts])

    def project(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        return JSONResponse(self._project(call, self._named(call)))

    def allocations(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        project = self._named(call)
        return JSONResponse([self._allocation(call, project, each) for each in CAPABILITIES])

    def allocation(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        return JSONResponse(self._allocation(call, *self._allocated(call)))

    def user_allocations(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        return JSONResponse([self._user_allocation(call, *self._allocated(call))])

    def user_allocation(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        found = self._user_allocation(call, *self._allocated(call))
        if found["id"] != call.path("user_allocation_id"):
            raise not_found("User allocation")
        return JSONResponse(found)

    def _named(self, call: Call) -> str:
        key = call.path("project_id")
        found = next((name for name in self._settings.accounts if identifier("project", name) == key), None)
        if found is None:
            raise not_found("Project")
        return found

    def _allocated(self, call: Call) -> tuple[str, Capability]:
        project, key = self._named(call), call.path("project_allocation_id")
        found = next((each for each in CAPABILITIES if _allocation_id(project, each) == key), None)
        if found is None:
            raise not_found("Project allocation")
        return project, found

    def _project(self, call: Call, name: str) -> Document:
        id_ = identifier("project", name)
        return {
            "id": id_,
            "name": name,
            "description": f"Project {name} of the sandbox",
            "user_ids": [self._settings.user],
            "last_modified": BUILT,
            "self_uri": f"{call.base}/account/projects/{id_}",
        }

    def _allocation(self, call: Call, project: str, capability: Capability) -> Document:
        project_uri = f"{call.base}/account/projects/{identifier('project', project)}"
        return {
            "id": _allocation_id(project, capability),
            "entries": [self._entry(call, project, capability, self._knobs.node_hours)],
            "project_uri": project_uri,
            "capability_uri": f"{call.base}/account/capabilities/{capability.id}",
        }

    def _user_allocation(self, call: Call, project: str, capability: Capability) -> Document:
        parent = _allocation_id(project, capability)
        project_uri = f"{call.base}/account/projects/{identifier('project', project)}"
        return {
            "id": identifier("user-allocation", f"{parent}/{self._settings.user}"),
            "user_id": self._settings.user,
            "entries": [self._entry(call, project, capability, self._own_hours)],
            "project_allocation_uri": f"{project_uri}/project_allocations/{parent}",
        }

    @property
    def _own_hours(self) -> float | None:
        return self._knobs.node_hours if self._knobs.own_node_hours is None else self._knobs.own_node_hours

    def _entry(self, call: Call, project: str, capability: Capability, node_hours: float | None) -> Json:
        """`node_hours` replaces those of the settings where not None."""
        hours = capability.unit is Unit.NODE_HOURS
        granted = (self._settings.node_hours if node_hours is None else node_hours) if hours else _BYTES
        used = self._used(project) if hours else 0.0
        return {"allocation": granted, "usage": used, "unit": call.version.unit(capability.unit)}


def _allocation_id(project: str, capability: Capability) -> str:
    return identifier("allocation", f"{project}/{capability.name}")
