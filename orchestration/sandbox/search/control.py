"""The control of the stand-in for Globus Search: indexes that stand still, and what they really have."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.sandbox import documents
from orchestration.sandbox.faults import CONTROL
from orchestration.sandbox.search.entries import Indexes
from orchestration.sandbox.search.tasks import Worker

_INDEX = f"{CONTROL}/search/indexes/{{id}}"


class SearchControl:
    """Routes below ``/_sandbox/search``."""

    def __init__(self, indexes: Indexes, worker: Worker) -> None:
        self._indexes = indexes
        self._worker = worker

    def routes(self) -> list[Route]:
        return [
            Route(_INDEX, self.switch, methods=["POST"]),
            Route(f"{_INDEX}/entries", self.entries),
        ]

    async def switch(self, request: Request) -> JSONResponse:
        """While an index is held, its tasks wait."""
        index = self._indexes.get(request.path_params["id"])
        held = documents.flag(await documents.received(request), "held")
        (self._worker.held.add if held else self._worker.held.discard)(index.id)
        self._worker.wake()
        return JSONResponse({"held": held})

    async def entries(self, request: Request) -> JSONResponse:
        """All of an index, whoever may see it."""
        index = self._indexes.get(request.path_params["id"])
        return JSONResponse({"entries": [entry.document() for entry in index.snapshot()]})
