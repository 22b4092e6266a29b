"""The Globus Search part of the facility, put together."""

from __future__ import annotations

from starlette.routing import BaseRoute, Mount

from orchestration.sandbox.effects import Effects
from orchestration.sandbox.globus.tokens import Tokens
from orchestration.sandbox.search.callers import Callers
from orchestration.sandbox.search.control import SearchControl
from orchestration.sandbox.search.entries import Indexes
from orchestration.sandbox.search.routes import SearchRoutes
from orchestration.sandbox.search.settings import SearchSettings
from orchestration.sandbox.search.tasks import Worker
from orchestration.sandbox.store import Store


class Search:
    def __init__(self, settings: SearchSettings, store: Store, effects: Effects, tokens: Tokens) -> None:
        self._indexes = Indexes(settings.indexes, store)
        self._worker = Worker(self._indexes, store, effects, delay=settings.delay)
        self._web = SearchRoutes(self._indexes, self._worker, Callers(tokens, settings.groups))
        self._control = SearchControl(self._indexes, self._worker)

    def open(self) -> None:
        """Go on with the tasks of before."""
        self._worker.start()

    def close(self) -> None:
        self._worker.stop()

    def reset(self) -> None:
        """Begin anew with what is stored: the worker must have been stopped, and the store been cleared."""
        self._worker.held.clear()
        self._indexes.load()
        self._worker.start()

    def routes(self) -> list[BaseRoute]:
        return [*self._control.routes(), Mount("/search", routes=self._web.routes())]
