"""Who uses the catalogue, and what each may do."""

from __future__ import annotations

import base64
import json
import secrets
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request

from orchestration.ledger.service import Document
from orchestration.sandbox import clock, documents
from orchestration.sandbox.scicat.answers import forbidden, refusal
from orchestration.sandbox.settings import Account
from orchestration.sandbox.store import Store

_TOKEN = "scicat-token"  # noqa: S105 -- a kind of document
_NAMESPACE = uuid.UUID("3b2f3b64-1df5-4a6a-8a6e-1a5b8f5d7a10")


@dataclass(frozen=True)
class User:
    """An account, or nobody: who has no valid token may read what is published."""

    account: Account | None = None

    @property
    def name(self) -> str:
        return self.account.username if self.account else "anonymous"

    @property
    def admin(self) -> bool:
        return self.has("admin")

    def has(self, right: str) -> bool:
        return self.account is not None and right in self.account.rights

    def member(self, group: str) -> bool:
        return self.account is not None and group in self.account.groups

    def may_read(self, dataset: Document) -> bool:
        """The right to create for any group is no right to read."""
        groups = [documents.text(dataset, "ownerGroup"), *documents.strings(dataset, "accessGroups")]
        shared = self.account is not None and self.account.email in documents.strings(dataset, "sharedWith")
        return documents.flag(dataset, "isPublished") or self.admin or shared or any(map(self.member, groups))

    def may_create(self, group: str) -> bool:
        return self.admin or self.has("create-any") or self.member(group)

    def may_add_to(self, dataset: Document) -> bool:
        """Blocks and attachments."""
        return self.may_create(documents.text(dataset, "ownerGroup"))

    def may_change(self, dataset: Document) -> bool:
        return self.admin or self.member(documents.text(dataset, "ownerGroup"))


class Accounts:
    """Logins and their tokens, which outlive a restart."""

    def __init__(self, accounts: Iterable[Account], store: Store, *, lifetime: int) -> None:
        self._accounts = {one.username: one for one in accounts}
        self._store = store
        self._lifetime = lifetime

    def login(self, username: str, password: str) -> Document:
        """The token document. Raises: CatalogueError 401."""
        account = self._accounts.get(username)
        if account is None or not secrets.compare_digest(account.password.encode(), password.encode()):
            raise refusal(401, "Unauthorized")
        issued = int(time.time())
        token = _jwt(account, issued, issued + self._lifetime)
        self._store.put(_TOKEN, token, {"username": username, "expires": issued + self._lifetime})
        return {
            "access_token": token,
            "id": token,
            "expires_in": self._lifetime,
            "ttl": self._lifetime,
            "created": clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "userId": _user_id(account),
            "user": user_view(account),
        }

    def of(self, request: Request) -> User:
        """Whoever asks. A bad token makes nobody of them, without a word, as in the real backend."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        token = bearer if scheme == "Bearer" else request.query_params.get("access_token", "")
        known = self._store.get(_TOKEN, token)
        if known is None or documents.number(known, "expires") < time.time():
            return User()
        return User(self._accounts.get(documents.text(known, "username")))

    def require(self, request: Request) -> User:
        """Raises: CatalogueError 403 (never 401)."""
        user = self.of(request)
        if user.account is None:
            raise forbidden()
        return user

    def expire_all(self) -> int:
        return self._store.clear(_TOKEN)


def user_view(account: Account) -> Document:
    return {
        "id": _user_id(account),
        "username": account.username,
        "email": account.email,
        "emailVerified": True,
        "authStrategy": "local",
    }


def _user_id(account: Account) -> str:
    return uuid.uuid5(_NAMESPACE, account.username).hex[:24]


def _jwt(account: Account, issued: int, expires: int) -> str:
    """In the form of a JSON web token, so that clients can read when it expires; its signature is random."""
    head: Document = {"alg": "HS256", "typ": "JWT"}
    claims: Document = {"_id": _user_id(account), "username": account.username, "email": account.email}
    claims |= {"authStrategy": "local", "iat": issued, "exp": expires}
    return ".".join([_encoded(json.dumps(head)), _encoded(json.dumps(claims)), _encoded(secrets.token_hex(32))])


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
