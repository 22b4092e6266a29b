"""What goes wrong inside sfapi_client and what it is made of, told in this project's errors."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
import time
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import Any

from orchestration.errors import ConfigError, OrchestrationError, ServiceUnavailable

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_REFUSED_CLIENT = frozenset({"invalid_client", "unauthorized_client", "invalid_grant", "access_denied"})
_NEW_CLIENT = (
    "make a new client at iris.nersc.gov (one that may submit jobs ends after two days, and answers only to the "
    "addresses that were given) and put its files where PATH_NERSC_CLIENT_ID and PATH_NERSC_PRI_KEY point"
)


class Unsent(ServiceUnavailable):
    """Raised when a request found nobody to take it: it did nothing, for certain."""


@functools.cache
def _http_modules() -> tuple[ModuleType, ...]:
    """Authlib, and with it the client, uses httpx2 where that is installed: its errors are no errors of httpx."""
    names = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name) is not None]
    return tuple(importlib.import_module(name) for name in names)


@functools.cache
def foreign() -> tuple[type[Exception], ...]:
    """Everything that a call of the client may raise besides this project's errors."""
    base: Any = importlib.import_module("authlib.common.errors")
    sfapi: Any = importlib.import_module("sfapi_client.exceptions")
    http: list[type[Exception]] = [kind for module in _http_modules() for kind in (module.HTTPError, module.InvalidURL)]
    return (*http, base.AuthlibBaseError, sfapi.SfApiError, json.JSONDecodeError, UnicodeDecodeError)


def status_of(error: Exception) -> int | None:
    """The HTTP status of an answer that was refused; None of any other error."""
    if isinstance(error, tuple(module.HTTPStatusError for module in _http_modules())):
        status: int = error.response.status_code  # type: ignore[attr-defined]
        return status
    return None


def translate(error: Exception, *, where: str) -> OrchestrationError:
    """One of `foreign` as one of ours. What a request did that got no answer is not known."""
    status = status_of(error)
    if status is not None:
        return _answered(error, status, where)
    if is_oauth(error):
        return _unproven(error, where)
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return ServiceUnavailable("the Superfacility API answered what is not JSON", where=where)
    kind = Unsent if _is_unconnected(error) else ServiceUnavailable
    return kind(f"the Superfacility API does not answer ({type(error).__name__})", where=where)


def _is_unconnected(error: Exception) -> bool:
    kinds = [kind for module in _http_modules() for kind in (module.ConnectError, module.ConnectTimeout)]
    return isinstance(error, tuple(kinds))


def _answered(error: Any, status: int, where: str) -> OrchestrationError:
    said = _said(error.response)
    if status in _AGAIN or status >= 500:
        after = _seconds(str(error.response.headers.get("Retry-After", "")))
        return ServiceUnavailable(f"the Superfacility API cannot serve now: {said}", where=where, retry_after=after)
    if status == 401:
        return ConfigError(f"NERSC does not accept this service's client: {said}", where=where, next_step=_NEW_CLIENT)
    if status == 403:
        return ConfigError(
            f"NERSC does not let this service's client do that: {said}",
            where=where,
            next_step="give the client the right to submit jobs (colour red) at iris.nersc.gov, or the file its mode",
        )
    # Not the failure of a job: it may go on, and is asked about again once this is mended.
    return ConfigError(
        f"the Superfacility API refuses the request: {said}",
        where=where,
        next_step="check machine and api_url of the site in the settings, then start the flow again",
    )


def _seconds(retry_after: str) -> float | None:
    """A header's number of seconds, or those until its date; None if it is neither, or says nothing."""
    if re.fullmatch(r"\d+(\.\d+)?", retry_after):
        return float(retry_after) or None
    try:
        left = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except ValueError:
        return None
    return left if left > 0 else None


def _unproven(error: Any, where: str) -> OrchestrationError:
    code, said = str(error.error or ""), str(error.description or error.error or type(error).__name__)
    if code in _REFUSED_CLIENT:
        return ConfigError(f"NERSC does not accept this service's client: {said}", where=where, next_step=_NEW_CLIENT)
    return ServiceUnavailable(f"NERSC gives no access token: {said}", where=where)


def is_oauth(error: Exception) -> bool:
    base: Any = importlib.import_module("authlib.common.errors")
    return isinstance(error, base.AuthlibBaseError)


def _said(response: Any) -> str:
    """The reason in an answer, shortened; its status where it gives none."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = ""
    text = detail if isinstance(detail, str) else json.dumps(detail)
    line = " ".join(text.split())[:300]
    return f"{line} (HTTP {response.status_code})" if line else f"HTTP status {response.status_code}"
