"""The stand-in for an IRI facility: both versions of the API, over one queue and one set of files."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.faults import CONTROL
from orchestration.sandbox.globus.tokens import Tokens
from orchestration.sandbox.iri import inventory
from orchestration.sandbox.iri.account import Accounts
from orchestration.sandbox.iri.calls import Operation
from orchestration.sandbox.iri.compute import Compute
from orchestration.sandbox.iri.conditions import Conditions, IncidentType, Resolution, State
from orchestration.sandbox.iri.files import Disk
from orchestration.sandbox.iri.filesystem import Filesystem
from orchestration.sandbox.iri.idempotency import Keys
from orchestration.sandbox.iri.inventory import Resource
from orchestration.sandbox.iri.jobs import Jobs
from orchestration.sandbox.iri.knobs import Knobs
from orchestration.sandbox.iri.problems import (
    NotModified,
    Problem,
    http_answer,
    not_modified_answer,
    problem_answer,
    unforeseen_answer,
)
from orchestration.sandbox.iri.settings import IriSettings
from orchestration.sandbox.iri.status import Status
from orchestration.sandbox.iri.storage import Storage
from orchestration.sandbox.iri.tasks import Tasks
from orchestration.sandbox.iri.version import Version
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility.local.scheduler import LocalScheduler
from orchestration.sandbox.superfacility.scheduler import EndState
from orchestration.sandbox.superfacility.settings import Project, SuperfacilitySettings

VERSIONS = (Version(1), Version(2))


class Iri:
    def __init__(
        self,
        facility: Settings,
        *,
        store: Store,
        effects: Effects,
        tokens: Tokens,
    ) -> None:
        settings, state, collections = facility.iri, facility.state, facility.collections
        roots = settings.roots or (state, *(each.root for each in collections))
        self._effects = effects
        # A queue of its own, as another facility has: jobs of the one are not known at the other.
        self._queue = Store(state / "iri" / "queue.sqlite")
        self._scheduler = LocalScheduler(
            _batch_system(settings), store=self._queue, folder=state / "iri", started=self._started
        )
        self.knobs = Knobs.kept(store)
        self.conditions = Conditions(store)
        self.tasks = Tasks(store, self.knobs)
        self.jobs = Jobs(store, effects, self._scheduler, account=settings.accounts[0])
        self._accounts = Accounts(settings, tokens, self.knobs, used=self.jobs.node_hours)
        self._status = Status(self.conditions)
        keys = Keys(store, self.knobs, lifetime=settings.idempotency_seconds)
        self._compute = Compute(self.jobs, self._status, keys, self.knobs, accounts=settings.accounts)
        self._filesystem = Filesystem(Disk(roots), self.tasks, self._status)
        self._storage = Storage(self._status, settings, roots=roots, collections=collections)

    def open(self) -> None:
        self._scheduler.open()
        self.tasks.open()

    def close(self) -> None:
        self.knobs.close()
        self.tasks.close()
        self._scheduler.close()
        self._queue.close()

    def stop(self) -> None:
        """End all jobs and forget them."""
        self._scheduler.reset()
        self._queue.clear_all()

    def reset(self) -> None:
        """Once its owner has cleared the store: be as at the beginning."""
        self.knobs.forget()
        self._scheduler.hold(held=False)

    def _started(self, job: str, name: str) -> None:
        self._effects.happened("job-start", job, key=name)

    def operations(self, version: Version) -> list[Operation]:
        return [
            *self._status.operations(),
            *self._accounts.operations(),
            *self._compute.operations(),
            *self._filesystem.operations(version),
            *(self._storage.operations() if version.storage else []),
            *self.tasks.operations(),
        ]

    def routes(self) -> list[Mount]:
        """The two versions, below ``/iri/api/v1`` and ``/iri/api/v2``."""
        return [Mount(f"/iri{version.prefix}", app=self._api(version)) for version in VERSIONS]

    def _api(self, version: Version) -> Starlette:
        return Starlette(
            routes=[each.route(version, self._accounts.user) for each in self.operations(version)],
            exception_handlers={
                Problem: problem_answer,
                NotModified: not_modified_answer,
                HTTPException: http_answer,
                Exception: unforeseen_answer,
            },
        )

    def control(self) -> list[Route]:
        base = f"{CONTROL}/iri"
        return [
            Route(f"{base}/knobs", self.turn, methods=["POST"]),
            Route(f"{base}/resources/{{name}}", self.switch, methods=["POST"]),
            Route(f"{base}/incidents", self.announce, methods=["POST"]),
            Route(f"{base}/incidents", self.clear, methods=["DELETE"]),
            Route(f"{base}/maintenance", self.end_maintenance, methods=["DELETE"]),
            Route(f"{base}/hold", self.hold, methods=["POST"]),
            Route(f"{base}/jobs", self.list_jobs),
            Route(f"{base}/jobs/{{id}}", self.end_job, methods=["POST"]),
        ]

    async def turn(self, request: Request) -> JSONResponse:
        self.knobs.turn(await documents.received(request))
        return JSONResponse(self.knobs.document())

    async def switch(self, request: Request) -> JSONResponse:
        body = await documents.received(request)
        resource = _resource(request.path_params["name"])
        state = State(documents.text(body, "state", "up"))
        return JSONResponse(self.conditions.switch(resource, state, incident=documents.text(body, "incident")))

    async def announce(self, request: Request) -> JSONResponse:
        body = await documents.received(request)
        names = documents.strings(body, "resources") or [each.name for each in inventory.RESOURCES]
        id_ = self.conditions.announce(
            documents.text(body, "name", "maintenance"),
            [_resource(name) for name in names],
            kind=IncidentType(documents.text(body, "type", "planned")),
            status=State(documents.text(body, "status", "down")),
            start=documents.text(body, "start"),
            end=documents.text(body, "end"),
            resolution=Resolution(documents.text(body, "resolution", "unresolved")),
        )
        return JSONResponse({"id": id_}, status_code=201)

    async def clear(self, request: Request) -> JSONResponse:
        self.conditions.all_up()
        return JSONResponse({"ok": True})

    async def end_maintenance(self, request: Request) -> JSONResponse:
        self.conditions.end_maintenance()
        return JSONResponse({"ok": True})

    async def hold(self, request: Request) -> JSONResponse:
        held = documents.flag(await documents.received(request), "held", default=True)
        await run_in_threadpool(self._scheduler.hold, held)
        return JSONResponse({"held": held})

    async def list_jobs(self, request: Request) -> JSONResponse:
        kept = self.jobs.every()
        standings = await run_in_threadpool(self.jobs.standings, kept)
        rows: list[Document] = [
            {"id": each.id, "name": each.name, "state": standings[each.id].state} for each in reversed(kept)
        ]
        return JSONResponse({"jobs": rows})

    async def end_job(self, request: Request) -> JSONResponse:
        state = EndState(documents.text(await documents.received(request), "state", "FAILED"))
        await run_in_threadpool(self._scheduler.end, request.path_params["id"], state)
        return JSONResponse({"state": state.value})


def _batch_system(settings: IriSettings) -> SuperfacilitySettings:
    return SuperfacilitySettings(
        projects=tuple(Project(name=account) for account in settings.accounts),
        slots=settings.slots,
        grace=settings.grace,
        path=settings.path,
        environment=settings.environment,
    )


def _resource(name: str) -> Resource:
    found = inventory.named(name)
    if found is None:
        known: Mapping[str, str] = {each.name: each.id for each in inventory.RESOURCES}
        raise documents.NotADocument(f"there is no resource {name!r}; there are {', '.join(known)}")
    return found
