"""Tokens of the stand-in for Globus Auth."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.globus.answers import ApiError
from orchestration.sandbox.store import Store

AUTH = "auth.globus.org"
TRANSFER = "transfer.api.globus.org"
COMPUTE = "funcx_service"
SEARCH = "search.api.globus.org"
FLOWS = "flows.globus.org"
_BY_CLIENT = {"facd7ccc-c5f4-42aa-916b-a0e270e2c2a9": COMPUTE, "eec9b274-0c81-4334-bdc2-54e90e689b9a": FLOWS}
"""Services whose scopes name them by the id of their client."""
_KIND = "globus-token"


def split_scopes(text: str) -> list[str]:
    """Split at blanks outside brackets: ``a[*b *c] d`` -> ``a[*b *c]``, ``d``."""
    scopes, depth = [""], 0
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == " " and depth == 0:
            scopes.append("")
        else:
            scopes[-1] += char
    return [scope for scope in scopes if scope]


def resource_server(scope: str) -> str:
    """The service that a scope belongs to."""
    plain = scope.lstrip("*")
    if named := re.match(r"urn:globus:auth:scope:([^:]+):", plain):
        return named[1]
    if owner := re.match(r"https://auth\.globus\.org/scopes/([^/]+)/", plain):
        return _BY_CLIENT.get(owner[1], owner[1])
    return AUTH


@dataclass(frozen=True, kw_only=True)
class Token:
    """Who asks, and for what. `scopes` keep their dependencies in brackets."""

    secret: str
    subject: str
    client_id: str
    resource_server: str
    scopes: tuple[str, ...]
    issued: float
    expires: float

    @property
    def active(self) -> bool:
        return self.expires > time.time()

    @property
    def plain_scopes(self) -> str:
        """Without dependencies, as the token document names them."""
        return " ".join(dict.fromkeys(re.sub(r"\[.*", "", scope).lstrip("*") for scope in self.scopes))

    def document(self) -> Document:
        return {
            "subject": self.subject,
            "client_id": self.client_id,
            "resource_server": self.resource_server,
            "scopes": list[Json](self.scopes),
            "issued": self.issued,
            "expires": self.expires,
        }

    @classmethod
    def parse(cls, secret: str, document: Document) -> Token:
        return cls(
            secret=secret,
            subject=documents.text(document, "subject"),
            client_id=documents.text(document, "client_id"),
            resource_server=documents.text(document, "resource_server"),
            scopes=tuple(documents.strings(document, "scopes")),
            issued=documents.number(document, "issued"),
            expires=documents.number(document, "expires"),
        )


class Tokens:
    """All tokens issued; they outlive a restart, like those of the real service."""

    def __init__(self, store: Store, *, lifetime: int) -> None:
        self._store = store
        self.lifetime = lifetime

    def issue(self, subject: str, client_id: str, scopes: list[str]) -> list[Token]:
        """One token per resource server named by the scopes, in their order."""
        by_server: dict[str, list[str]] = {}
        for scope in scopes:
            by_server.setdefault(resource_server(scope), []).append(scope)
        return [self._issue_one(subject, client_id, server, wanted) for server, wanted in by_server.items()]

    def _issue_one(self, subject: str, client_id: str, server: str, scopes: list[str]) -> Token:
        issued = time.time()
        token = Token(
            secret="Ag" + secrets.token_urlsafe(40),
            subject=subject,
            client_id=client_id,
            resource_server=server,
            scopes=tuple(scopes),
            issued=issued,
            expires=issued + self.lifetime,
        )
        self._store.put(_KIND, token.secret, token.document())
        return token

    def get(self, secret: str) -> Token | None:
        """An active token."""
        document = self._store.get(_KIND, secret)
        token = None if document is None else Token.parse(secret, document)
        return token if token and token.active else None

    def revoke(self, secret: str) -> None:
        self._store.remove(_KIND, secret)

    def expire_all(self) -> int:
        return self._store.clear(_KIND)

    def require(self, request: Request, server: str) -> Token:
        """The token of a request. Raises: ApiError 401."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        token = self.get(secret) if scheme == "Bearer" else None
        if token is None or token.resource_server != server:
            raise ApiError(401, "AuthenticationFailed", "No credentials supplied, or the token is not active")
        return token


def identity(subject: str) -> Mapping[str, Json]:
    """What the stand-in says of a person or client."""
    return {
        "id": subject,
        "username": f"{subject}@clients.auth.globus.org",
        "name": "sandbox client",
        "email": None,
        "identity_provider": "3a2d3ab1-5a4e-4a0e-9c1e-000000000000",
        "identity_type": "login",
        "organization": None,
        "status": "used",
    }
