"""The Globus Compute part of the facility, put together."""

from __future__ import annotations

from starlette.routing import BaseRoute, Mount

from orchestration.sandbox.compute.control import ComputeControl
from orchestration.sandbox.compute.routes import ComputeRoutes
from orchestration.sandbox.compute.service import ComputeService
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.globus.tokens import Tokens
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.store import Store


class Compute:
    def __init__(self, settings: Settings, store: Store, effects: Effects, tokens: Tokens) -> None:
        self.service = ComputeService(settings.compute, store, effects, folder=settings.state / "compute")
        self._web = ComputeRoutes(self.service, tokens)
        self._control = ComputeControl(self.service)

    def routes(self) -> list[BaseRoute]:
        """Below ``/compute`` for clients that can be told so, and at the root for those that know only a port."""
        return [*self._control.routes(), Mount("/compute", routes=self._web.routes()), *self._web.routes()]
