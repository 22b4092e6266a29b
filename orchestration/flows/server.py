"""One short conversation with the Prefect server, and what its refusals mean to us."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, Settings

from orchestration.errors import ConfigError, OperationFailed, ServiceUnavailable
from orchestration.ledger.waiting import asked_again_in

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0

_NOT_NOW = {408, 425, 429}
_NO_ENTRY = {401, 403}


@contextmanager
def prefect_server() -> Iterator[SyncPrefectClient]:
    """A client of its own, closed at the end; the same from a flow, a task's thread, an event loop or a plain process.

    It neither starts a temporary server (what is scheduled there would be lost with it) nor repeats a request itself:
    who calls knows what may be asked twice. `prefect.exceptions.ObjectNotFound` is left to the caller.

    Raises:
        ConfigError: if no server is set, or it does not accept our credentials.
        ServiceUnavailable: if there is no answer, or it is "not now".
        OperationFailed: if the server refuses the request.
    """
    url = api_url()
    with without_retries():
        try:
            with get_client(httpx_settings=_http_settings(url), sync_client=True) as client:
                yield client
        except ObjectNotFound:
            raise
        except httpx.HTTPStatusError as error:
            raise _refusal(error, url) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServiceUnavailable(
                f"the Prefect server does not answer: {error or type(error).__name__}",
                where=url,
                next_step="check that the server runs and PREFECT_API_URL is right; it is asked again until then",
            ) from error


_made: tuple[Settings, Settings] | None = None
"""The last settings of Prefect that were in force, and the same without repeated requests."""


def without_retries() -> SettingsContext:
    """The settings in force, with no request repeated by Prefect's client."""
    global _made
    context = get_settings_context()
    if _made is None or _made[0] is not context.settings:
        # Prefect takes a tenth of a second for this copy, which is most of a short conversation.
        once = context.settings.copy_with_update({PREFECT_CLIENT_MAX_RETRIES: 0})
        _made = (context.settings, once)
    return SettingsContext(profile=context.profile, settings=_made[1])


def insist(ask: Callable[[], T], *, seconds: float) -> T:
    """Ask what may be asked twice until it is answered; ServiceUnavailable if it is not in that time."""
    until = time.monotonic() + seconds
    delay = 0.1
    while True:
        try:
            return ask()
        except ServiceUnavailable as silence:
            delay = min(2 * delay, 2.0)
            left = until - time.monotonic()
            if left <= 0:
                raise
            threading.Event().wait(min(asked_again_in(silence, delay), left))


def api_url() -> str:
    """Address of the Prefect server's API.

    Raises:
        ConfigError: if none is set.
    """
    url = PREFECT_API_URL.value()
    if not url:
        raise ConfigError(
            "no Prefect server is set",
            where="PREFECT_API_URL",
            next_step="set PREFECT_API_URL in the environment or in .env, or start one with `beamline sandbox up`",
        )
    return str(url).rstrip("/")


def _http_settings(url: str) -> dict[str, object]:
    settings: dict[str, object] = {"timeout": TIMEOUT_SECONDS}
    if url.startswith("http://"):
        # Without this, every client reads the whole list of certificate authorities, twenty times the cost of the rest.
        settings["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return settings


def _refusal(error: httpx.HTTPStatusError, url: str) -> ConfigError | ServiceUnavailable | OperationFailed:
    status = error.response.status_code
    detail = explanation(error.response)
    if status in _NO_ENTRY:
        return ConfigError(
            f"the Prefect server does not let us in: {detail}",
            where=url,
            next_step="set PREFECT_API_KEY or PREFECT_API_AUTH_STRING to what this server expects",
        )
    if status >= 500 or status in _NOT_NOW:
        return ServiceUnavailable(
            f"the Prefect server answered {status}: {detail}", where=url, retry_after=_retry_after(error.response)
        )
    return OperationFailed(f"the Prefect server refused the request ({status}): {detail}", where=url)


def explanation(response: httpx.Response) -> str:
    """The server's own explanation, where it gave one."""
    try:
        document = response.json()
    except ValueError:
        return response.text[:300] or response.reason_phrase
    if not isinstance(document, dict):
        return str(document)[:600]
    said = [document.get(key) for key in ("detail", "exception_message", "exception_detail")]
    return ": ".join(str(part) for part in said if part)[:600] or response.reason_phrase


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
