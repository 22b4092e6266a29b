"""Signing in to Globus as this service, without anybody at a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import globus_sdk
from globus_sdk.scopes import Scope, TransferScopes
from globus_sdk.transport import RequestsTransport, RetryConfig
from globus_sdk.transport.default_retry_checks import check_expired_authorization
from globus_sdk.transport.retry import RetryCheckCollection, RetryCheckResult, RetryContext

from orchestration.config import Credentials
from orchestration.errors import ServiceUnavailable
from orchestration.globus.errors import translate
from orchestration.ledger.waiting import pause

T = TypeVar("T")
C = TypeVar("C", bound=globus_sdk.BaseClient)

READ_DELAYS = (0.05, 0.2, 0.8)
"""Seconds before a question that changes nothing is asked again."""

_TIMEOUT = 30.0
"""Seconds without an answer after which a service is thought unavailable."""


@dataclass
class _Grant:
    """What all threads share: the scopes that are asked for, and the access token that has them."""

    scopes: tuple[str, ...]
    access: str | None = None
    expires: int | None = None


class Clients(Generic[C]):
    """Clients of one application at one service, one for each thread; nothing is asked before the first call.

    The secret stays in the credentials, whose text form hides it, and in the SDK's client.
    """

    def __init__(self, credentials: Credentials, kind: Callable[..., C], scope: Scope) -> None:
        self._credentials = credentials
        self._kind = kind
        self._grant = _Grant((str(scope),))
        self._lock = threading.Lock()
        self._threads = threading.local()

    def __call__(self) -> C:
        """The client of the calling thread.

        Raises:
            ConfigError: if the credentials are not set.
            globus_sdk.GlobusError: if no token can be had.
        """
        scopes = self._grant.scopes
        if getattr(self._threads, "scopes", None) != scopes:
            self._threads.client = self._build(scopes)
            self._threads.scopes = scopes
        client: C = self._threads.client
        return client

    @property
    def identity(self) -> str:
        """This service as one of those who may see something: the id of a client is that of its identity."""
        return f"urn:globus:auth:identity:{self._credentials.globus()[0]}"

    def widen(self, required: Sequence[str]) -> bool:
        """Ask for more from now on; returns whether that is more than before."""
        with self._lock:
            merged = tuple(sorted(str(scope) for scope in _merge((*self._grant.scopes, *required))))
            if merged == self._grant.scopes:
                return False
            self._grant.scopes, self._grant.access, self._grant.expires = merged, None, None
            return True

    def _build(self, scopes: tuple[str, ...]) -> C:
        identifier, secret = self._credentials.globus()
        application = globus_sdk.ConfidentialAppAuthClient(
            identifier, secret.get_secret_value(), transport=once_transport(), retry_config=no_retries()
        )
        with self._lock:
            authorizer = globus_sdk.ClientCredentialsAuthorizer(
                application,
                list(scopes),
                access_token=self._grant.access,
                expires_at=self._grant.expires,
                on_refresh=self._remember,
            )
            self._grant.access, self._grant.expires = authorizer.access_token, authorizer.expires_at
        return self._kind(authorizer=authorizer, transport=once_transport(), retry_config=no_retries())

    def _remember(self, answer: globus_sdk.OAuthClientCredentialsResponse) -> None:
        found = next(iter(answer.by_resource_server.values()))
        self._grant.access, self._grant.expires = found["access_token"], found["expires_at_seconds"]


class TransferClients(Clients[globus_sdk.TransferClient]):
    """Transfer clients of one application."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials, globus_sdk.TransferClient, TransferScopes.all)

    def call(self, ask: Callable[[globus_sdk.TransferClient], T], *, where: str) -> T:
        """The answer to `ask`; a data_access consent that a collection asks for is given, once.

        Raises:
            OrchestrationError: what `translate` makes of the SDK's errors.
        """
        try:
            return self._consenting(ask)
        except globus_sdk.GlobusError as error:
            raise translate(error, where=where) from error

    def read(self, ask: Callable[[globus_sdk.TransferClient], T], *, where: str) -> T:
        """As `call`, for what changes nothing: asked again at once, a few times, when there is no answer.

        A tree of many folders takes many questions. Where one in ten is not answered, they would never all be answered
        if each silence had all of them asked again.
        """
        return asked_again(lambda: self.call(ask, where=where), where=where)

    def _consenting(self, ask: Callable[[globus_sdk.TransferClient], T]) -> T:
        try:
            return ask(self())
        except globus_sdk.TransferAPIError as error:
            required = error.info.consent_required.required_scopes
            if not error.info.consent_required or not self.widen(required or []):
                raise
        return ask(self())


def asked_again(ask: Callable[[], T], *, where: str) -> T:
    """The answer to a question that changes nothing, put again at once, a few times, when there is none."""
    for delay in READ_DELAYS:
        try:
            return ask()
        except ServiceUnavailable as silence:
            if silence.retry_after is not None:
                raise
        pause(delay, where)
    return ask()


def _merge(scopes: tuple[str, ...]) -> list[Scope]:
    """One scope for each name, with the dependencies of all."""
    merged: dict[str, dict[str, Scope]] = {}
    for text in scopes:
        scope = Scope.parse(text)
        merged.setdefault(scope.scope_string, {}).update({str(each): each for each in scope.dependencies})
    return [Scope(name).with_dependencies(list(needs.values())) for name, needs in merged.items()]


def once_transport() -> RequestsTransport:
    return RequestsTransport(http_timeout=_TIMEOUT)


def no_retries() -> RetryConfig:
    """An expired token is renewed; everything else is the business of whoever polls, who knows what may be repeated."""
    checks = RetryCheckCollection()
    checks.register_many_checks([check_expired_authorization, _nothing_else])
    return RetryConfig(max_retries=1, backoff=lambda _: 0.0, checks=checks)


def _nothing_else(_: RetryContext) -> RetryCheckResult:
    # The clients put the SDK's own checks after ours; the first that decides is obeyed.
    return RetryCheckResult.do_not_retry
