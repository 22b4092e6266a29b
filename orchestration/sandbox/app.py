"""The facility as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount

from orchestration.sandbox.compute.facility import Compute
from orchestration.sandbox.control import Control
from orchestration.sandbox.documents import NotADocument
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.faults import FaultMiddleware, Faults
from orchestration.sandbox.globus import flows
from orchestration.sandbox.globus.answers import ApiError, error_answer, request_id
from orchestration.sandbox.globus.facility import Globus
from orchestration.sandbox.globus.flows import FlowsError
from orchestration.sandbox.iri.facility import Iri
from orchestration.sandbox.proxying import AbsoluteForm
from orchestration.sandbox.scicat import answers as scicat_answers
from orchestration.sandbox.scicat.accounts import Accounts
from orchestration.sandbox.scicat.answers import CatalogueError
from orchestration.sandbox.scicat.catalogue import Catalogue
from orchestration.sandbox.scicat.pages import Pages
from orchestration.sandbox.scicat.routes import Backend
from orchestration.sandbox.search import answers as search_answers
from orchestration.sandbox.search.answers import SearchError
from orchestration.sandbox.search.facility import Search
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility import answers as superfacility_answers
from orchestration.sandbox.superfacility.answers import Refusal
from orchestration.sandbox.superfacility.facility import Superfacility


class Facility:
    """All services over one store."""

    def __init__(self, settings: Settings) -> None:
        self.store = Store(settings.state / "facility.sqlite")
        self.effects = Effects(self.store)
        self.faults = Faults(self.store)
        self.globus = Globus(settings, self.store, self.effects)
        self.compute = Compute(settings, self.store, self.effects, self.globus.tokens)
        self.accounts = Accounts(settings.accounts, self.store, lifetime=settings.token_lifetime)
        self.catalogue = Catalogue(self.store, self.effects)
        self.superfacility = Superfacility(
            settings.superfacility,
            store=self.store,
            effects=self.effects,
            folder=settings.state / "superfacility",
            roots=[collection.root for collection in settings.collections],
        )
        self.iri = Iri(settings, store=self.store, effects=self.effects, tokens=self.globus.tokens)
        self.search = Search(settings.search, self.store, self.effects, self.globus.tokens)

    def reset(self) -> None:
        """Forget everything but the files of the collections."""
        self.globus.engine.stop()
        self.superfacility.reset()
        self.iri.stop()
        self.search.close()
        self.store.clear_all()
        self.superfacility.clients.reset()
        self.faults.clear()
        self.globus.reset()
        self.iri.reset()
        self.search.reset()
        self.compute.service.reset()
        self.catalogue.health.alive = True

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Go on with the tasks of before; stop them, unfinished, at the end."""
        self.globus.engine.resume()
        await self.compute.service.start()
        await run_in_threadpool(self.superfacility.open)
        await run_in_threadpool(self.iri.open)
        await run_in_threadpool(self.search.open)
        yield
        await self.superfacility.close()
        await run_in_threadpool(self.search.close)
        await run_in_threadpool(self.iri.close)
        await self.compute.service.stop()
        await run_in_threadpool(self.globus.engine.stop)
        self.store.close()

    def routes(self) -> list[BaseRoute]:
        control = Control(
            faults=self.faults,
            effects=self.effects,
            globus=self.globus,
            accounts=self.accounts,
            catalogue=self.catalogue,
            superfacility=self.superfacility,
            reset=self.reset,
        )
        scicat = Mount("/scicat", routes=Backend(self.accounts, self.catalogue).routes())
        return [
            *control.routes(),
            *self.globus.routes(),
            *self.compute.routes(),
            *self.superfacility.routes(),
            *self.iri.control(),
            *self.iri.routes(),
            *self.search.routes(),
            scicat,
            *Pages(self.catalogue).routes(),
        ]


def build(settings: Settings) -> Starlette:
    """A facility, its services mounted at ``/auth``, ``/transfer``, ``/search``, ``/scicat``, ... and ``/_sandbox``."""
    facility = Facility(settings)
    app = Starlette(
        routes=facility.routes(),
        exception_handlers={
            ApiError: error_answer,
            CatalogueError: scicat_answers.error_answer,
            NotADocument: _not_a_document,
            FlowsError: flows.error_answer,
            Refusal: superfacility_answers.error_answer,
            SearchError: search_answers.error_answer,
            404: _no_such_route,
        },
        lifespan=facility.lifespan,
    )
    app.add_middleware(FaultMiddleware, faults=facility.faults)
    app.add_middleware(AbsoluteForm)
    return app


async def _no_such_route(request: Request, _: Exception) -> JSONResponse:
    message = f"The sandbox has no route {request.method} {request.url.path}"
    body = {"code": "ClientError.NotFound", "message": message, "request_id": request_id()}
    return JSONResponse(body | {"resource": request.url.path, "statusCode": 404}, status_code=404)


async def _not_a_document(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"code": "BadRequest", "message": str(error), "statusCode": 400}, status_code=400)
