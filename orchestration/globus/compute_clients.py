"""Asking Globus Compute's web service as this service, each request once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import globus_sdk
from globus_sdk.scopes import ComputeScopes

from orchestration.config import Credentials
from orchestration.errors import ConfigError, InvalidInput, JobFailed, ServiceUnavailable
from orchestration.globus.auth import no_retries, once_transport

T = TypeVar("T")

_AGAIN = frozenset({408, 423, 425, 429})
"""Besides all that are 500 and more."""

_SETTINGS = "correct `endpoints` of the site in config.yml (GLOBUS_COMPUTE_ENDPOINT, GLOBUS_COMPUTE_LOGIN_ENDPOINT)"
_CREDENTIALS = "check GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET"
_ADMIT = "let the endpoint's owner admit this service's client"


@dataclass(frozen=True)
class WebClients:
    """The two versions of the interface: functions and submissions are in the newer, everything else in the older."""

    v2: globus_sdk.ComputeClientV2
    v3: globus_sdk.ComputeClientV3

    @property
    def address(self) -> str:
        return str(self.v2.base_url)


class Refused(Exception):
    """A no of the web service. It stays inside this package: whoever asked knows what it means for a job.

    `status` is that of the answer, 0 where the SDK itself refused to ask; `code` is empty where the answer was none of
    Globus Compute's, but the page of something on the way there.
    """

    def __init__(self, said: str, *, status: int, code: str, where: str, signed_in: bool = True) -> None:
        super().__init__(f"{status}: {said}")
        self.said = said
        self.status = status
        self.code = code
        self.where = where
        self.signed_in = signed_in and status != 401

    @property
    def unknown(self) -> bool:
        """Whether it says that there is no such thing."""
        return self.status == 404 and bool(self.code)

    def of_question(self) -> ConfigError | ServiceUnavailable:
        """For who only asked: whatever was refused, nothing was learned of a job, and it may go on."""
        if not self.signed_in:
            return ConfigError(self._not_let_in, where=self.where, next_step=_CREDENTIALS)
        if self.code.startswith(("ENDPOINT", "RESOURCE_FORBIDDEN")) and self.status in (403, 404):
            step = _SETTINGS if self.unknown else f"{_ADMIT}, or {_SETTINGS}"
            return ConfigError(f"Globus Compute refuses an endpoint: {self.said}", where=self.where, next_step=step)
        return ServiceUnavailable(f"Globus Compute did not answer a question: {self.said}", where=self.where)

    def of_submission(self) -> InvalidInput | JobFailed | ServiceUnavailable:
        """For who wanted a job to be run: it is not, and that is certain where Globus Compute itself says so."""
        if not self.signed_in:
            return JobFailed(self._not_let_in, where=self.where, next_step=_CREDENTIALS)
        if self.status in (0, 413):
            return InvalidInput(f"Globus Compute cannot take it: {self.said}", where=self.where)
        if not self.code and self.status != 403:
            return ServiceUnavailable(f"Globus Compute was not reached: {self.said}", where=self.where)
        step = _SETTINGS if self.unknown else f"{_ADMIT}, then start the flow again" if self.status == 403 else ""
        return JobFailed(f"Globus Compute refuses it: {self.said}", where=self.where, next_step=step)

    @property
    def _not_let_in(self) -> str:
        return f"Globus does not accept this service's credentials for Globus Compute: {self.said}"


@dataclass(frozen=True)
class ComputeClients:
    """Clients of one application, one for each thread; nothing is asked before the first call.

    `service_url` is another web service than Globus's own. The SDK repeats a request of any kind when it hears
    nothing, which would submit a job twice: these clients repeat none, but for a token that has expired.
    """

    credentials: Credentials
    service_url: str | None = None
    _threads: threading.local = field(default_factory=threading.local, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _shared: list[globus_sdk.ClientCredentialsAuthorizer] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def call(self, ask: Callable[[WebClients], T], *, where: str) -> T:
        """What `ask` gives.

        Raises:
            ServiceUnavailable: if there is no answer, or "not now".
            Refused: if the answer is no.
            ConfigError: if there are no credentials.
        """
        try:
            return ask(self._clients())
        except globus_sdk.GlobusError as error:
            raise translate(error, where=where) from error

    def _clients(self) -> WebClients:
        found: WebClients | None = getattr(self._threads, "clients", None)
        if found is None:
            found = self._threads.clients = self._build()
        return found

    def _build(self) -> WebClients:
        with self._lock:
            if not self._shared:
                self._shared.append(self._sign_in())
        options: dict[str, Any] = {"base_url": self.service_url or None, "authorizer": self._shared[0]}
        v2 = globus_sdk.ComputeClientV2(transport=once_transport(), retry_config=no_retries(), **options)
        v3 = globus_sdk.ComputeClientV3(transport=once_transport(), retry_config=no_retries(), **options)
        return WebClients(v2, v3)

    def _sign_in(self) -> globus_sdk.ClientCredentialsAuthorizer:
        identifier, secret = self.credentials.globus_compute()
        application = globus_sdk.ConfidentialAppAuthClient(
            identifier, secret.get_secret_value(), transport=once_transport(), retry_config=no_retries()
        )
        return globus_sdk.ClientCredentialsAuthorizer(application, [str(ComputeScopes.all)])


def answered(answer: globus_sdk.GlobusHTTPResponse, name: str) -> Any:
    """A field of an answer. Without it nothing was learned, though something may have been done.

    Raises:
        ServiceUnavailable: if it is not there.
    """
    found = answer.data.get(name) if isinstance(answer.data, dict) else None
    if found is None:
        raise ServiceUnavailable(f"Globus Compute answered without {name}")
    return found


def translate(error: globus_sdk.GlobusError, *, where: str) -> ServiceUnavailable | Refused:
    """What an error of the SDK says."""
    if isinstance(error, globus_sdk.NetworkError):
        return ServiceUnavailable("Globus Compute does not answer", where=where)
    if not isinstance(error, globus_sdk.GlobusAPIError):
        return Refused(f"the SDK does not send it: {error}", status=0, code="", where=where)
    said, status = _said(error), error.http_status
    if status in _AGAIN or status >= 500:
        again = _retry_after(error.headers)
        return ServiceUnavailable(f"Globus Compute cannot serve now: {said}", where=where, retry_after=again)
    signed_in = not isinstance(error, globus_sdk.AuthAPIError)
    return Refused(said, status=status, code=error.code or "", where=where, signed_in=signed_in)


def _said(error: globus_sdk.GlobusAPIError) -> str:
    body = error.raw_json if isinstance(error.raw_json, dict) else {}
    lines = str(body.get("reason") or error.message or "").splitlines()
    return lines[0].rstrip(". ") if lines else f"HTTP status {error.http_status}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = str(headers.get("Retry-After", ""))
    return float(text) if text.isdecimal() else None
