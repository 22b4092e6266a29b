"""Logging in to the catalogue, and knowing whether one still is.

A login that has expired is dangerous here: the server answers searches of strangers with 200 and nothing found.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx
from pydantic import SecretStr

from orchestration.errors import ConfigError, ServiceUnavailable
from orchestration.scicat import errors

MARGIN_SECONDS = 60.0
"""A login is renewed this long before it expires (a tenth of its life, if that is less): no request arrives after."""

DEFAULT_LIFETIME_SECONDS = 3600.0
"""Of a token that does not say how long it lives; that is SciCat's own default."""


@dataclass(frozen=True, kw_only=True)
class Token:
    value: str = field(repr=False)
    renew_at: float
    """Seconds since the epoch, by the clock of this machine."""
    user: str


class Login:
    """One account of the catalogue; logs in when needed, and again before the login expires."""

    def __init__(
        self,
        http: httpx.Client,
        credentials: Callable[[], tuple[str, SecretStr]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._credentials = credentials
        self._clock = clock
        self._token: Token | None = None
        self._lock = threading.Lock()

    def token(self) -> Token:
        with self._lock:
            if self._token is None or self._clock() >= self._token.renew_at:
                self._token = self._log_in()
            return self._token

    def renew(self, stale: Token) -> Token:
        """Another token than `stale`; threads that find the same token stale log in once."""
        with self._lock:
            if self._token is None or self._token.value == stale.value:
                self._token = self._log_in()
            return self._token

    def holds(self, token: Token) -> bool:
        """Whether the server knows us under this token: the one question that it answers strangers with a no."""
        what = "say who is logged in"
        try:
            response = self._http.get("users/my/self", headers=bearer(token))
        except httpx.TransportError as error:
            raise errors.unanswered(error, what, where=str(self._http.base_url)) from error
        if response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return False
        if not response.is_success:
            raise errors.explain(response, what)
        return True

    def _log_in(self) -> Token:
        user, password = self._credentials()
        what = f"log in {user}"
        try:
            response = self._http.post("auth/login", json={"username": user, "password": password.get_secret_value()})
        except httpx.TransportError as error:
            raise errors.unanswered(error, what, where=str(self._http.base_url)) from error
        if response.status_code in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise ConfigError(
                f"the catalogue does not accept the password of {user}: {errors.message(response)}",
                where=str(self._http.base_url),
                next_step="correct SCICAT_INGEST_USER and SCICAT_INGEST_PASSWORD, then start the flow again",
            )
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise ConfigError(
                "there is no catalogue API at this address",
                where=str(self._http.base_url),
                next_step="set `scicat.api_url` to the base of the API, which ends with /api/v3",
            )
        if not response.is_success:
            raise errors.explain(response, what)
        return self._read(response, user)

    def _read(self, response: httpx.Response, user: str) -> Token:
        try:
            body = response.json()
            value = body.get("access_token") or body["id"]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ServiceUnavailable(
                "the catalogue's answer to the login is not one of SciCat", where=str(self._http.base_url)
            ) from error
        now = self._clock()
        life = _lifetime(str(value), body.get("expires_in"), now)
        return Token(value=str(value), renew_at=now + life - min(MARGIN_SECONDS, life / 10), user=user)


def bearer(token: Token) -> dict[str, str]:
    # Never in the URL: access logs keep URLs.
    return {"Authorization": f"Bearer {token.value}"}


def _lifetime(token: str, expires_in: object, now: float) -> float:
    """Seconds; by `expires_in` where there is one, since the clock of the server may be off from ours."""
    if isinstance(expires_in, int | float) and not isinstance(expires_in, bool) and expires_in > 0:
        return float(expires_in)
    expiry = expiry_of(token)
    return DEFAULT_LIFETIME_SECONDS if expiry is None else max(0.0, expiry - now)


def expiry_of(token: str) -> float | None:
    """When a JSON Web Token says that it expires; None if it is not one, or does not say."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None
