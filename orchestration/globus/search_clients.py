"""Signing in to Globus Search as this service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import globus_sdk
from globus_sdk.scopes import SearchScopes

from orchestration.config import Credentials
from orchestration.globus.auth import Clients, asked_again
from orchestration.globus.search_errors import missing, translate

T = TypeVar("T")


class SearchClients(Clients[globus_sdk.SearchClient]):
    """Search clients of one application."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials, globus_sdk.SearchClient, SearchScopes.all)

    def call(self, ask: Callable[[globus_sdk.SearchClient], T], *, where: str) -> T:
        """The answer to `ask`, which is asked once.

        Raises:
            OrchestrationError: what `translate` makes of the SDK's errors.
        """
        try:
            return ask(self())
        except globus_sdk.GlobusError as error:
            raise translate(error, where=where) from error

    def read(self, ask: Callable[[globus_sdk.SearchClient], T], *, where: str) -> T | None:
        """As `call`, for what changes nothing: asked again at once, a few times, when there is no answer.

        Returns None for what is not there, or not for this service to see.
        """
        return asked_again(lambda: self._found(ask, where=where), where=where)

    def _found(self, ask: Callable[[globus_sdk.SearchClient], T], *, where: str) -> T | None:
        try:
            return ask(self())
        except globus_sdk.GlobusError as error:
            if missing(error):
                return None
            raise translate(error, where=where) from error
