"""The control of the Superfacility API stand-in: lags, maintenance, outages, tokens, hours, and the end of jobs."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.superfacility.clients import Clients
from orchestration.sandbox.superfacility.knobs import Board, Maintenance, Service
from orchestration.sandbox.superfacility.places import SUPERFACILITY_CONTROL as BASE
from orchestration.sandbox.superfacility.scheduler import EndState, Query, Refused, Scheduler, Unsupported
from orchestration.sandbox.superfacility.settings import RegisteredClient
from orchestration.sandbox.superfacility.status import Status
from orchestration.sandbox.superfacility.tokens import Tokens


class Control:
    """Routes below ``/_sandbox/superfacility``."""

    def __init__(
        self,
        *,
        board: Board,
        status: Status,
        clients: Clients,
        tokens: Tokens,
        scheduler: Scheduler,
        machine: str,
        user: str,
    ) -> None:
        """`user` is whose commands show all jobs."""
        self._board = board
        self._status = status
        self._clients = clients
        self._tokens = tokens
        self._scheduler = scheduler
        self._machine = machine
        self._user = user

    def routes(self) -> list[Route]:
        return [
            Route(f"{BASE}/knobs", self.show_knobs),
            Route(f"{BASE}/knobs", self.turn_knobs, methods=["POST"]),
            Route(f"{BASE}/status/{{name}}", self.set_status, methods=["POST"]),
            Route(f"{BASE}/outages", self.add_outage, methods=["POST"]),
            Route(f"{BASE}/outages", self.clear_outages, methods=["DELETE"]),
            Route(f"{BASE}/maintenance", self.begin_maintenance, methods=["POST"]),
            Route(f"{BASE}/maintenance", self.end_maintenance, methods=["DELETE"]),
            Route(f"{BASE}/revoke_tokens", self.revoke_tokens, methods=["POST"]),
            Route(f"{BASE}/clients/{{id}}", self.register_client, methods=["POST"]),
            Route(f"{BASE}/clients/{{id}}/expire", self.expire_client, methods=["POST"]),
            Route(f"{BASE}/jobs", self.list_jobs),
            Route(f"{BASE}/jobs/{{id}}/end", self.end_job, methods=["POST"]),
            Route(f"{BASE}/jobs/{{id}}/forget", self.forget_job, methods=["POST"]),
        ]

    async def show_knobs(self, request: Request) -> JSONResponse:
        return JSONResponse(self._board.now.document())

    async def turn_knobs(self, request: Request) -> JSONResponse:
        changes = await documents.received(request)
        try:
            knobs = self._board.now.turned(changes)
            if "held" in changes:
                await run_in_threadpool(self._scheduler.hold, knobs.held)
        except (ValueError, Refused, Unsupported) as error:
            return _refused(str(error))
        return JSONResponse(self._board.turn(changes).document())

    async def set_status(self, request: Request) -> JSONResponse:
        name = request.path_params["name"]
        try:
            return JSONResponse(self._status.set(name, await documents.received(request)))
        except (KeyError, ValueError) as error:
            return _refused(f"{name}: {error!r}")

    async def add_outage(self, request: Request) -> JSONResponse:
        try:
            return JSONResponse(self._status.add_outage(await documents.received(request)), status_code=201)
        except (KeyError, ValueError) as error:
            return _refused(repr(error))

    async def clear_outages(self, request: Request) -> JSONResponse:
        return JSONResponse({"cleared": self._status.clear_outages()})

    async def begin_maintenance(self, request: Request) -> JSONResponse:
        """The machine is unavailable, and the services named (`Service`) say so in the way named (`Maintenance`)."""
        body = await documents.received(request)
        text = documents.text(body, "text", f"{self._machine} is down for maintenance")
        try:
            self._board.turn(
                {
                    "maintenance": documents.text(body, "kind", Maintenance.UNAVAILABLE.value),
                    "maintenance_text": text,
                    "maintenance_services": body.get("services", [Service.COMPUTE.value]),
                }
            )
        except ValueError as error:
            return _refused(str(error))
        changes: Document = {"status": "unavailable", "description": text, "notes": [text]}
        return JSONResponse(self._status.set(self._machine, changes))

    async def end_maintenance(self, request: Request) -> JSONResponse:
        self._board.turn({"maintenance": "", "maintenance_text": ""})
        changes: Document = {"status": "active", "description": "System is active", "notes": []}
        return JSONResponse(self._status.set(self._machine, changes))

    async def revoke_tokens(self, request: Request) -> JSONResponse:
        return JSONResponse({"revoked": self._tokens.revoke_all()})

    async def register_client(self, request: Request) -> JSONResponse:
        body = await documents.received(request)
        expires = body.get("expires")
        client = RegisteredClient(
            id=request.path_params["id"],
            jwk=documents.object_at(body, "jwk"),
            user=documents.text(body, "user"),
            expires=float(expires) if isinstance(expires, int | float) else None,
        )
        self._clients.add(client)
        return JSONResponse({"id": client.id}, status_code=201)

    async def expire_client(self, request: Request) -> JSONResponse:
        client = self._clients.get(request.path_params["id"])
        if client is None:
            return _refused(f"there is no client {request.path_params['id']}")
        self._clients.expire(client)
        return JSONResponse({"id": client.id})

    async def list_jobs(self, request: Request) -> JSONResponse:
        """As sacct says it now, without any lag."""
        rows = await run_in_threadpool(self._scheduler.accounting, self._user, Query())
        return JSONResponse({"jobs": [dict(row.fields) for row in rows]})

    async def end_job(self, request: Request) -> JSONResponse:
        body = await documents.received(request)
        try:
            state = EndState(documents.text(body, "state"))
            await run_in_threadpool(self._scheduler.end, request.path_params["id"], state)
        except (ValueError, Refused, Unsupported) as error:
            return _refused(str(error))
        return JSONResponse({"id": request.path_params["id"], "state": state.value})

    async def forget_job(self, request: Request) -> JSONResponse:
        return JSONResponse(self._board.forget(request.path_params["id"]).document())


def _refused(why: str) -> JSONResponse:
    return JSONResponse({"message": why}, status_code=400)
