"""The control of a facility: faults, switches of collections, corruption, expiry, and the log of effects."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.sandbox import documents
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.faults import CONTROL, FaultRule, Faults
from orchestration.sandbox.globus.facility import Globus
from orchestration.sandbox.scicat.accounts import Accounts
from orchestration.sandbox.scicat.catalogue import Catalogue
from orchestration.sandbox.superfacility.facility import Superfacility


class Control:
    """Routes below ``/_sandbox``. They need no token: the facility listens on loopback only."""

    def __init__(
        self,
        *,
        faults: Faults,
        effects: Effects,
        globus: Globus,
        accounts: Accounts,
        catalogue: Catalogue,
        superfacility: Superfacility,
        reset: Callable[[], None],
    ) -> None:
        self._faults = faults
        self._effects = effects
        self._globus = globus
        self._accounts = accounts
        self._catalogue = catalogue
        self._superfacility = superfacility
        self._reset = reset

    def routes(self) -> list[Route]:
        return [
            Route(f"{CONTROL}/ready", self.ready),
            Route(f"{CONTROL}/faults", self.list_faults),
            Route(f"{CONTROL}/faults", self.add_fault, methods=["POST"]),
            Route(f"{CONTROL}/faults", self.clear_faults, methods=["DELETE"]),
            Route(f"{CONTROL}/collections", self.list_collections),
            Route(f"{CONTROL}/collections/{{id}}", self.switch_collection, methods=["POST"]),
            Route(f"{CONTROL}/corrupt", self.corrupt, methods=["POST"]),
            Route(f"{CONTROL}/expire_tokens", self.expire_tokens, methods=["POST"]),
            Route(f"{CONTROL}/restart_catalogue", self.restart_catalogue, methods=["POST"]),
            Route(f"{CONTROL}/reset", self.reset, methods=["POST"]),
            Route(f"{CONTROL}/effects", self.list_effects),
        ]

    async def ready(self, request: Request) -> JSONResponse:
        return JSONResponse({"ready": True})

    async def list_faults(self, request: Request) -> JSONResponse:
        return JSONResponse({"rules": [rule.document() for rule in self._faults.every()]})

    async def add_fault(self, request: Request) -> JSONResponse:
        try:
            rule = FaultRule.parse(await documents.received(request))
        except (ValueError, KeyError, re.error) as error:
            return JSONResponse({"message": f"not a fault: {error!r}"}, status_code=400)
        return JSONResponse(self._faults.add(rule).document(), status_code=201)

    async def clear_faults(self, request: Request) -> JSONResponse:
        self._faults.clear()
        return JSONResponse({"rules": []})

    async def list_collections(self, request: Request) -> JSONResponse:
        rows = [
            {"id": one.id, "name": one.name, "root": str(one.root), **one.switches.document()}
            for one in self._globus.collections.every()
        ]
        return JSONResponse({"collections": rows})

    async def switch_collection(self, request: Request) -> JSONResponse:
        collection = self._globus.collections.get(request.path_params["id"])
        switches = collection.switch(await documents.received(request))
        self._globus.engine.wake()
        return JSONResponse(switches.document())

    async def corrupt(self, request: Request) -> JSONResponse:
        body = await documents.received(request)
        collection = self._globus.collections.get(documents.text(body, "collection"))
        self._globus.collections.corrupt(
            collection, documents.text(body, "path"), times=documents.whole(body, "times", 1)
        )
        return JSONResponse({"ok": True})

    async def expire_tokens(self, request: Request) -> JSONResponse:
        expired = self._globus.tokens.expire_all() + self._accounts.expire_all()
        return JSONResponse({"expired": expired + self._superfacility.tokens.revoke_all()})

    async def restart_catalogue(self, request: Request) -> JSONResponse:
        """Start the catalogue's process again after it has died."""
        died = not self._catalogue.health.alive
        self._catalogue.health.alive = True
        return JSONResponse({"died": died})

    async def reset(self, request: Request) -> JSONResponse:
        await run_in_threadpool(self._reset)
        return JSONResponse({"ok": True})

    async def list_effects(self, request: Request) -> JSONResponse:
        kind = request.query_params.get("kind", "")
        rows = [effect.document() for effect in self._effects.every() if kind in {"", effect.kind}]
        return JSONResponse({"effects": rows})
