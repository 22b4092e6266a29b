"""Access tokens of the stand-in for the Superfacility API; like those of the real one they outlive its restart."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from starlette.requests import Request

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility.answers import Refusal

_KIND = "sf-token"
_ASSERTION = "sf-assertion"
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, kw_only=True)
class Token:
    """On whose behalf a request is made, and by which client."""

    secret: str
    user: str
    client: str
    expires: float


class Tokens:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._looked = 0.0

    def issue(self, user: str, client: str, *, lifetime: float) -> Token:
        token = Token(secret=secrets.token_urlsafe(48), user=user, client=client, expires=time.time() + lifetime)
        document: Document = {"user": token.user, "client": token.client, "expires": token.expires}
        self._store.put(_KIND, token.secret, document)
        return token

    def require(self, request: Request) -> Token:
        """The token of a request. Raises: Refusal 403 without one, 401 with one that is not valid any more."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise Refusal(403, "Not authenticated")
        found = self._store.get(_KIND, secret)
        if found is None or documents.number(found, "expires") <= time.time():
            raise Refusal(401, "Invalid or expired token", _CHALLENGE)
        return Token(
            secret=secret,
            user=documents.text(found, "user"),
            client=documents.text(found, "client"),
            expires=documents.number(found, "expires"),
        )

    def user(self, request: Request) -> str:
        """Who asks. Raises: Refusal, as `require`."""
        return self.require(request).user

    def revoke_all(self) -> int:
        """How many there were."""
        return self._store.clear(_KIND)

    def first_use(self, assertion: str, *, expires: float) -> bool:
        """Whether a client assertion of this id was never seen before; remembers it until it expires."""
        self._forget_expired(time.time())
        return self._store.add(_ASSERTION, assertion, {"expires": expires})

    def _forget_expired(self, now: float) -> None:
        """Assertions that would be refused for their age; looked for once a minute."""
        if now - self._looked < 60.0:
            return
        self._looked = now
        for key, document in self._store.every(_ASSERTION):
            if documents.number(document, "expires") < now:
                self._store.remove(_ASSERTION, key)
