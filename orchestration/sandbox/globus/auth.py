"""Stand-in for Globus Auth: what a confidential client needs."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox.globus.tokens import AUTH, Token, Tokens, identity, split_scopes


class Auth:
    """Issues tokens to the clients of the settings by their id and secret."""

    def __init__(self, tokens: Tokens, *, clients: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._clients = dict(clients)

    def routes(self) -> list[Route]:
        return [
            Route("/v2/oauth2/token", self.token, methods=["POST"]),
            Route("/v2/oauth2/token/introspect", self.introspect, methods=["POST"]),
            Route("/v2/oauth2/token/revoke", self.revoke, methods=["POST"]),
            Route("/v2/oauth2/userinfo", self.userinfo),
            Route("/v2/api/identities", self.identities),
            Route("/v2/api/identities/{id}/consents", self.consents),
            Route("/.well-known/openid-configuration", self.openid_configuration),
        ]

    async def token(self, request: Request) -> JSONResponse:
        form = await _form(request)
        client = self._client(request)
        if client is None:
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        if _field(form, "grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, status_code=400)
        scopes = split_scopes(_field(form, "scope"))
        if not scopes:
            return JSONResponse({"error": "invalid_scope"}, status_code=400)
        first, *others = [self._token_document(token) for token in self._tokens.issue(client, client, scopes)]
        return JSONResponse({**first, "other_tokens": others})

    async def introspect(self, request: Request) -> JSONResponse:
        if self._client(request) is None:
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        token = self._tokens.get(_field(await _form(request), "token"))
        if token is None:
            return JSONResponse({"active": False})
        known = identity(token.subject)
        body = {
            "active": True,
            "token_type": "Bearer",
            "scope": token.plain_scopes,
            "client_id": token.client_id,
            "sub": token.subject,
            "username": known["username"],
            "name": known["name"],
            "email": known["email"],
            "exp": int(token.expires),
            "iat": int(token.issued),
            "nbf": int(token.issued),
            "aud": [token.resource_server, token.client_id],
            "iss": "https://auth.globus.org",
            "identity_set": [token.subject],
        }
        return JSONResponse(body)

    async def revoke(self, request: Request) -> JSONResponse:
        self._tokens.revoke(_field(await _form(request), "token"))
        return JSONResponse({"active": False})

    async def userinfo(self, request: Request) -> JSONResponse:
        token = self._tokens.require(request, AUTH)
        known = identity(token.subject)
        person: dict[str, Json] = {
            "sub": token.subject,
            "name": known["name"],
            "email": known["email"],
            "identity_provider": known["identity_provider"],
            "identity_provider_display_name": "Sandbox",
            "last_authentication": int(token.issued),
        }
        linked = person | {"username": known["username"]}
        return JSONResponse(person | {"preferred_username": known["username"], "identity_set": [linked]})

    async def identities(self, request: Request) -> JSONResponse:
        wanted = request.query_params.get("ids", "").split(",")
        return JSONResponse({"identities": [identity(subject) for subject in wanted if subject]})

    async def consents(self, request: Request) -> JSONResponse:
        return JSONResponse({"consents": []})

    async def openid_configuration(self, request: Request) -> JSONResponse:
        base = str(request.base_url).rstrip("/")
        paths = {
            "authorization_endpoint": "/v2/oauth2/authorize",
            "token_endpoint": "/v2/oauth2/token",
            "userinfo_endpoint": "/v2/oauth2/userinfo",
            "jwks_uri": "/jwk.json",
        }
        return JSONResponse({"issuer": "https://auth.globus.org"} | {name: base + path for name, path in paths.items()})

    def _token_document(self, token: Token) -> Document:
        return {
            "access_token": token.secret,
            "scope": token.plain_scopes,
            "expires_in": self._tokens.lifetime,
            "token_type": "Bearer",
            "resource_server": token.resource_server,
        }

    def _client(self, request: Request) -> str | None:
        """The id of the client that proved itself by HTTP Basic."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        try:
            client, _, secret = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        known = self._clients.get(client)
        return client if known is not None and secrets.compare_digest(known.encode(), secret.encode()) else None


async def _form(request: Request) -> dict[str, list[str]]:
    """A urlencoded body; any other is empty."""
    return parse_qs((await request.body()).decode(errors="replace"))


def _field(form: Mapping[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]
