"""The facility as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount

from orchestration.sandbox.control import Control
from orchestration.sandbox.documents import NotADocument
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.faults import FaultMiddleware, Faults
from orchestration.sandbox.globus.answers import ApiError, error_answer, request_id
from orchestration.sandbox.globus.facility import Globus
from orchestration.sandbox.scicat import answers as scicat_answers
from orchestration.sandbox.scicat.accounts import Accounts
from orchestration.sandbox.scicat.answers import CatalogueError
from orchestration.sandbox.scicat.catalogue import Catalogue
from orchestration.sandbox.scicat.pages import Pages
from orchestration.sandbox.scicat.routes import Backend
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.store import Store


def build(settings: Settings) -> Starlette:
    """All services of a facility, mounted at ``/auth``, ``/transfer``, ``/scicat`` and ``/_sandbox``."""
    store = Store(settings.state / "facility.sqlite")
    effects, faults = Effects(store), Faults(store)
    globus = Globus(settings, store, effects)
    accounts = Accounts(settings.accounts, store, lifetime=settings.token_lifetime)
    catalogue = Catalogue(store, effects)

    def reset() -> None:
        globus.engine.stop()
        store.clear_all()
        faults.clear()
        globus.reset()
        catalogue.health.alive = True

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        globus.engine.resume()
        yield
        await run_in_threadpool(globus.engine.stop)
        store.close()

    control = Control(
        faults=faults, effects=effects, globus=globus, accounts=accounts, catalogue=catalogue, reset=reset
    )
    scicat = Mount("/scicat", routes=Backend(accounts, catalogue).routes())
    app = Starlette(
        routes=[*control.routes(), *globus.routes(), scicat, *Pages(catalogue).routes()],
        exception_handlers={
            ApiError: error_answer,
            CatalogueError: scicat_answers.error_answer,
            NotADocument: _not_a_document,
            404: _no_such_route,
        },
        lifespan=lifespan,
    )
    app.add_middleware(FaultMiddleware, faults=faults)
    return app


async def _no_such_route(request: Request, _: Exception) -> JSONResponse:
    message = f"The sandbox has no route {request.method} {request.url.path}"
    body = {"code": "ClientError.NotFound", "message": message, "request_id": request_id()}
    return JSONResponse(body | {"resource": request.url.path, "statusCode": 404}, status_code=404)


async def _not_a_document(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"code": "BadRequest", "message": str(error), "statusCode": 400}, status_code=400)
