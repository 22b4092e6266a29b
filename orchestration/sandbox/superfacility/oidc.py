"""The token endpoint: a client proves itself by a signed assertion (RFC 7523), as at NERSC's OpenID provider."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable
from typing import Any, cast

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.sandbox.superfacility import answers
from orchestration.sandbox.superfacility.clients import Clients
from orchestration.sandbox.superfacility.places import TOKEN
from orchestration.sandbox.superfacility.settings import RegisteredClient
from orchestration.sandbox.superfacility.tokens import Tokens

_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class NotProven(Exception):
    """Raised when a client did not prove itself; the text says why."""


class TokenEndpoint:
    def __init__(self, clients: Clients, tokens: Tokens, *, lifetime: Callable[[], int]) -> None:
        self._clients = clients
        self._tokens = tokens
        self._lifetime = lifetime

    def routes(self) -> list[Route]:
        return [Route(TOKEN, self.token, methods=["POST"])]

    async def token(self, request: Request) -> JSONResponse:
        form = await request.form()
        if answers.optional(form, "grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, status_code=400)
        if answers.optional(form, "client_assertion_type") != _JWT_BEARER:
            return _invalid_client("Missing client authentication")
        try:
            client = self._proven(answers.optional(form, "client_assertion"), audience=_own_url(request))
        except NotProven as error:
            return _invalid_client(f"Client authentication failed: {error}")
        lifetime = self._lifetime()
        token = self._tokens.issue(client.user, client.id, lifetime=lifetime)
        body = {"access_token": token.secret, "token_type": "Bearer", "expires_in": lifetime, "scope": "api:all"}
        return JSONResponse(body)

    def _proven(self, assertion: str, *, audience: str) -> RegisteredClient:
        """Raises: NotProven."""
        client = self._clients.get(_claimed(assertion))
        if client is None:
            raise NotProven("unknown client")
        key = RSAKey.import_key(cast(dict[str, str | list[str]], client.jwk))
        same = {"essential": True, "value": client.id}
        must = cast(dict[str, Any], {"iss": same, "sub": same, "aud": {"essential": True, "value": audience}})
        try:
            claims = jwt.decode(assertion, key, algorithms=["RS256"]).claims
            jwt.JWTClaimsRegistry(**must, exp={"essential": True}, jti={"essential": True}).validate(claims)
        except (JoseError, ValueError) as error:
            raise NotProven(str(error) or type(error).__name__) from error
        if client.expires is not None and client.expires <= time.time():
            raise NotProven("client expired")
        if not self._tokens.first_use(f"{client.id}/{claims['jti']}", expires=float(claims["exp"])):
            raise NotProven("replayed jti")
        return client


def _claimed(assertion: str) -> str:
    """The client that an assertion says it is from, not yet proven. Raises: NotProven."""
    try:
        payload = assertion.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["sub"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise NotProven("not a client assertion") from error


def _own_url(request: Request) -> str:
    """This endpoint as the client has called it."""
    return str(request.url.replace(query=""))


def _invalid_client(why: str) -> JSONResponse:
    return JSONResponse({"error": "invalid_client", "error_description": why}, status_code=401)
