"""Stand-in for Globus Flows: definitions are kept, and none is run.

They are checked as far as the service does at once, and beyond that by what the action providers take that are known
here: with a wrong parameter the real service would fail the first run.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.globus import answers
from orchestration.sandbox.globus.tokens import FLOWS, Tokens
from orchestration.sandbox.store import Store

_KIND = "flow"
PAGE = 20
"""Flows that one list has."""

_ACTIONS: Mapping[str, tuple[set[str], set[str]]] = {
    "https://transfer.actions.globus.org/transfer": (
        {"source_endpoint", "destination_endpoint", "DATA"},
        {
            *("label", "deadline", "sync_level", "verify_checksum", "encrypt_data", "preserve_timestamp"),
            *("skip_source_errors", "fail_on_quota_errors", "delete_destination_extra", "recursive_symlinks"),
            *("notify_on_succeeded", "notify_on_failed", "notify_on_inactive", "filter_rules"),
            *("source_local_user", "destination_local_user", "store_base_path_info"),
        },
    ),
    "https://compute.actions.globus.org/v3": (
        {"endpoint_id", "tasks"},
        {"task_group_id", "user_endpoint_config", "user_runtime", "resource_specification", "create_queue"},
    ),
}
"""The parameters that an action must have, and those that it may have."""


class FlowsError(Exception):
    """An error answer of Globus Flows, which has a shape of its own: ``{"error": {"code", "detail"}}``."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.document: Document = {"error": {"code": code, "detail": detail}, "debug_id": str(uuid.uuid4())}


class Flows:
    def __init__(self, tokens: Tokens, store: Store, effects: Effects) -> None:
        self._tokens = tokens
        self._store = store
        self._effects = effects

    def routes(self) -> list[Route]:
        return [
            Route("/flows", self.create, methods=["POST"]),
            Route("/flows", self.list, methods=["GET"]),
            Route("/flows/{id}", self.get, methods=["GET"]),
            Route("/flows/{id}", self.update, methods=["PUT"]),
            Route("/flows/{id}", self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> JSONResponse:
        owner = self._tokens.require(request, FLOWS).subject
        body = await answers.body(request)
        missing = [name for name in ("title", "definition", "input_schema") if name not in body]
        if missing:
            raise FlowsError(422, "UNPROCESSABLE_ENTITY", f"Field required: {', '.join(missing)}")
        _check(body)
        id_ = str(uuid.uuid4())
        flow: Document = {
            "id": id_,
            "title": body["title"],
            "subtitle": body.get("subtitle", ""),
            "description": body.get("description", ""),
            "definition": body["definition"],
            "input_schema": body["input_schema"],
            "keywords": body.get("keywords", []),
            "flow_owner": f"urn:globus:auth:identity:{owner}",
            "created_at": clock.now().isoformat(),
            "updated_at": clock.now().isoformat(),
        }
        self._store.put(_KIND, id_, flow)
        self._effects.happened("flow", id_, key=str(body["title"]))
        return JSONResponse(flow, status_code=201)

    async def list(self, request: Request) -> JSONResponse:
        who = f"urn:globus:auth:identity:{self._tokens.require(request, FLOWS).subject}"
        words = request.query_params.get("filter_fulltext", "").lower().split()
        own = "filter_roles" in request.query_params
        found: list[Json] = [
            flow
            for _, flow in self._store.every(_KIND)
            if all(word in str(flow["title"]).lower() for word in words) and (not own or flow["flow_owner"] == who)
        ]
        start = int(request.query_params.get("marker", "0"))
        more = start + PAGE < len(found)
        marker = str(start + PAGE) if more else None
        page = found[start : start + PAGE]
        return JSONResponse({"flows": page, "limit": PAGE, "marker": marker, "has_next_page": more})

    async def get(self, request: Request) -> JSONResponse:
        return JSONResponse(self._flow(request))

    async def update(self, request: Request) -> JSONResponse:
        flow = self._flow(request)
        body = await answers.body(request)
        _check(body)
        changed = {**flow, **body, "id": flow["id"], "updated_at": clock.now().isoformat()}
        self._store.put(_KIND, str(flow["id"]), changed)
        return JSONResponse(changed)

    async def delete(self, request: Request) -> JSONResponse:
        flow = self._flow(request)
        self._store.remove(_KIND, str(flow["id"]))
        return JSONResponse(flow)

    def _flow(self, request: Request) -> Document:
        self._tokens.require(request, FLOWS)
        id_ = request.path_params["id"]
        found = self._store.get(_KIND, id_)
        if found is None:
            raise FlowsError(404, "NOT_FOUND", f"No Flow exists with id {id_}")
        return found


def _check(body: Mapping[str, Json]) -> None:
    """What the service refuses at once: a definition that does not begin, or leads nowhere."""
    definition = body.get("definition")
    if definition is None:
        return
    states = definition.get("States") if isinstance(definition, dict) else None
    if not isinstance(definition, dict) or not isinstance(states, dict) or definition.get("StartAt") not in states:
        raise FlowsError(422, "UNPROCESSABLE_ENTITY", "definition: StartAt must name one of the States")
    for name, state in states.items():
        following = state.get("Next") if isinstance(state, dict) else None
        if following is not None and following not in states:
            raise FlowsError(422, "UNPROCESSABLE_ENTITY", f"definition: {name}.Next names no state")
        if isinstance(state, dict) and (wrong := _wrong_parameters(state)):
            raise FlowsError(422, "UNPROCESSABLE_ENTITY", f"definition: {name}.Parameters: {wrong}")


def _wrong_parameters(state: Mapping[str, Json]) -> str:
    """What the action provider of a state would say of its parameters; empty if it would take them, or is unknown."""
    needed, taken = _ACTIONS.get(str(state.get("ActionUrl", "")).rstrip("/"), (set(), None))
    found = state.get("Parameters")
    if taken is None or not isinstance(found, dict):
        return "" if taken is None else "there are none"
    # A name may end with what says how its value is found out: `endpoint_id.$`, `endpoint_id.=`.
    names = {name.removesuffix(".$").removesuffix(".=") for name in found}
    if missing := sorted(needed - names):
        return f"{', '.join(missing)} required"
    if unknown := sorted(names - needed - taken):
        return f"{', '.join(unknown)} not permitted"
    level = found.get("sync_level", 0)
    return "" if isinstance(level, int) and 0 <= level <= 3 else f"sync_level must be a whole number, not {level!r}"


def error_answer(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for FlowsError."""
    if not isinstance(error, FlowsError):
        raise error
    return JSONResponse(error.document, status_code=error.status)
