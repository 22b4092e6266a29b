"""Who asks an index, and what they may."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from starlette.requests import Request

from orchestration.sandbox.globus.answers import ApiError
from orchestration.sandbox.globus.tokens import SEARCH, Token, Tokens
from orchestration.sandbox.search.answers import SearchError
from orchestration.sandbox.search.settings import IndexSettings

PUBLIC = "public"
AUTHENTICATED = "all_authenticated_users"
IDENTITY = "urn:globus:auth:identity:"
GROUP = "urn:globus:groups:id:"

_SCOPE = f"urn:globus:auth:scope:{SEARCH}:"


@dataclass(frozen=True)
class Caller:
    """All that a caller is: ``public``, and with a token an identity and its groups."""

    principals: frozenset[str]
    scopes: frozenset[str] = frozenset()

    def sees(self, visible_to: Collection[str]) -> bool:
        return not self.principals.isdisjoint(visible_to)

    def demand(self, scope: str) -> None:
        """Raises: SearchError 403 if the token is for other things."""
        if self.scopes.isdisjoint({f"{_SCOPE}all", f"{_SCOPE}{scope}"}):
            raise forbidden(f"A token with the scope {_SCOPE}{scope} is needed")

    def roles(self, index: IndexSettings) -> list[str]:
        """``owner`` and ``writer``, as far as this caller is one."""
        anybody = not index.owners and not index.writers and AUTHENTICATED in self.principals
        owns = anybody or not self.principals.isdisjoint(index.owners)
        writes = not self.principals.isdisjoint(index.writers)
        return [role for role, has in (("owner", owns), ("writer", writes)) if has]


class Callers:
    def __init__(self, tokens: Tokens, groups: Mapping[str, frozenset[str]]) -> None:
        self._tokens = tokens
        self._groups = groups

    def anyone(self, request: Request) -> Caller:
        """Whoever asks; without a token, the public. Raises: SearchError 401 for a token that is not valid."""
        if "authorization" not in request.headers:
            return Caller(frozenset({PUBLIC}))
        return self.known(request)

    def known(self, request: Request) -> Caller:
        """The owner of a token. Raises: SearchError 401."""
        try:
            token = self._tokens.require(request, SEARCH)
        except ApiError as error:
            raise SearchError(401, "Unauthorized.Generic", error.message) from error
        return Caller(frozenset({PUBLIC, AUTHENTICATED, *self._urns(token)}), frozenset(token.plain_scopes.split()))

    def writer(self, request: Request, index: IndexSettings) -> Caller:
        """Somebody who may write to an index. Raises: SearchError 401 or 403."""
        caller = self.known(request)
        caller.demand("ingest")
        if not caller.roles(index):
            raise forbidden("You do not have the proper roles to perform this operation.")
        return caller

    def _urns(self, token: Token) -> list[str]:
        groups = [f"{GROUP}{group}" for group, members in self._groups.items() if token.subject in members]
        return [f"{IDENTITY}{token.subject}", *groups]


def forbidden(cause: str) -> SearchError:
    return SearchError(403, "Forbidden.Generic", "Request denied by service", {"cause": cause})
