"""Signing in to Globus Search as this service."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import globus_sdk
from globus_sdk.scopes import SearchScopes

from orchestration.config import Credentials
from orchestration.errors import ServiceUnavailable
from orchestration.globus.auth import READ_DELAYS, no_retries, once_transport
from orchestration.globus.search_errors import missing, translate
from orchestration.ledger.waiting import pause

T = TypeVar("T")


@dataclass
class _Token:
    """The access token that all threads share."""

    access: str | None = None
    expires: int | None = None


@dataclass(frozen=True)
class SearchClients:
    """Search clients of one application, one for each thread; nothing is asked of Globus before the first call."""

    credentials: Credentials
    _token: _Token = field(default_factory=_Token, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _threads: threading.local = field(default_factory=threading.local, init=False, repr=False, compare=False)

    def __call__(self) -> globus_sdk.SearchClient:
        """The client of the calling thread.

        Raises:
            ConfigError: if the credentials are not set.
            globus_sdk.GlobusError: if no token can be had.
        """
        client: globus_sdk.SearchClient | None = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = self._build()
        return client

    @property
    def identity(self) -> str:
        """This service as one of those who may see an entry: the id of a client is that of its identity."""
        return f"urn:globus:auth:identity:{self.credentials.globus()[0]}"

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
        for delay in READ_DELAYS:
            try:
                return self._found(ask, where=where)
            except ServiceUnavailable as silence:
                if silence.retry_after is not None:
                    raise
            pause(delay, where)
        return self._found(ask, where=where)

    def _found(self, ask: Callable[[globus_sdk.SearchClient], T], *, where: str) -> T | None:
        try:
            return ask(self())
        except globus_sdk.GlobusError as error:
            if missing(error):
                return None
            raise translate(error, where=where) from error

    def _build(self) -> globus_sdk.SearchClient:
        identifier, secret = self.credentials.globus()
        application = globus_sdk.ConfidentialAppAuthClient(
            identifier, secret.get_secret_value(), transport=once_transport(), retry_config=no_retries()
        )
        with self._lock:
            authorizer = globus_sdk.ClientCredentialsAuthorizer(
                application,
                [str(SearchScopes.all)],
                access_token=self._token.access,
                expires_at=self._token.expires,
                on_refresh=self._remember,
            )
            self._token.access, self._token.expires = authorizer.access_token, authorizer.expires_at
        return globus_sdk.SearchClient(authorizer=authorizer, transport=once_transport(), retry_config=no_retries())

    def _remember(self, answer: globus_sdk.OAuthClientCredentialsResponse) -> None:
        found = next(iter(answer.by_resource_server.values()))
        self._token.access, self._token.expires = found["access_token"], found["expires_at_seconds"]
