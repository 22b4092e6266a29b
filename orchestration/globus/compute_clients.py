"""Asking Globus Compute's web service as this service, each request once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import globus_sdk
from globus_sdk.scopes import ComputeScopes

from orchestration.config import Credentials
from orchestration.errors import (
    ConfigError,
    InvalidInput,
    JobFailed,
    OrchestrationError,
    ServiceUnavailable,
)
from orchestration.globus.auth import no_retries, once_transport

T = TypeVar("T")

_AGAIN = frozenset({408, 423, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class WebClients:
    """The two versions of the interface: functions and submissions are in the newer, everything else in the older."""

    v2: globus_sdk.ComputeClientV2
    v3: globus_sdk.ComputeClientV3

    @property
    def address(self) -> str:
        return str(self.v2.base_url)


class NotFound(JobFailed):
    """Raised where the web service knows no such endpoint, function, task or group. `code` says which."""

    def __init__(self, what: str, *, code: str = "", where: str = "", next_step: str = "", cause: str = "") -> None:
        self.code = code
        super().__init__(what, where=where, next_step=next_step, cause=cause)


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
            NotFound: if the web service does not know what it is asked about.
            InvalidInput, ConfigError, JobFailed: if it refuses.
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


def translate(error: globus_sdk.GlobusError, *, where: str) -> OrchestrationError:
    """An error of the SDK as one of ours."""
    if isinstance(error, globus_sdk.NetworkError):
        return ServiceUnavailable("Globus Compute does not answer", where=where)
    if isinstance(error, globus_sdk.GlobusAPIError):
        return _refused(error, where)
    return InvalidInput(f"Globus Compute cannot be asked: {error}", where=where)


def _refused(error: globus_sdk.GlobusAPIError, where: str) -> OrchestrationError:
    status, said = error.http_status, _said(error)
    if status in _AGAIN:
        return ServiceUnavailable(
            f"Globus Compute cannot serve now: {said}", where=where, retry_after=_retry_after(error.headers)
        )
    if isinstance(error, globus_sdk.AuthAPIError) or status == 401:
        return ConfigError(
            f"Globus does not accept this service's credentials for Globus Compute: {said}",
            where=where,
            next_step="check GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET",
        )
    if status == 413:
        return InvalidInput(f"the job is too large for Globus Compute: {said}", where=where)
    if status == 404:
        return NotFound(
            said,
            code=error.code or "",
            where=where,
            next_step="correct the endpoints of the site in config.yml (GLOBUS_COMPUTE_ENDPOINT)",
        )
    if status == 403:
        return JobFailed(
            f"Globus Compute does not let this service do that: {said}",
            where=where,
            next_step="let the endpoint's owner admit this service's client, then start the flow again",
        )
    return JobFailed(f"Globus Compute refused it: {said}", where=where)


def _said(error: globus_sdk.GlobusAPIError) -> str:
    body: Mapping[str, Any] = error.raw_json or {}
    lines = str(body.get("reason") or error.message or "").splitlines()
    return lines[0].rstrip(". ") if lines else f"HTTP status {error.http_status}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = str(headers.get("Retry-After", ""))
    return float(text) if text.isdecimal() else None
