"""Requests to one IRI facility: each is made once, and its answer read strictly.

The exception is a request that was refused for its token, where nothing was done: it is made again with a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self

import httpx

from orchestration.config import IriSite
from orchestration.errors import ConfigError
from orchestration.iri import errors
from orchestration.iri.auth import Bearer, bearer
from orchestration.ledger.service import Document, Json

TIMEOUT_SECONDS = 30.0
"""Lists of jobs are known to take long."""

Params = Mapping[str, str | int | bool]


@dataclass
class IriClient:
    """Safe to use from several threads; close it, or use ``with``. Nothing is asked before the first call."""

    site: IriSite
    bearer: Bearer
    timeout: float = TIMEOUT_SECONDS
    _http: httpx.Client = field(init=False, repr=False)
    _resources: dict[str, Document] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        base = f"{self.site.api_url.rstrip('/')}/api/v{self.site.version}"
        self._http = httpx.Client(
            base_url=base, timeout=httpx.Timeout(self.timeout, connect=10.0), headers={"Accept": "application/json"}
        )

    @classmethod
    def of(cls, site: IriSite) -> Self:
        return cls(site, bearer(site))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def where(self) -> str:
        return f"{self.site.name or 'IRI'}, {self._http.base_url}"

    def get(self, path: str, params: Params | None = None, *, public: bool = False) -> Json:
        """Raises: ServiceUnavailable, ConfigError (not let in), Refused."""
        return self._read(self._send("GET", path, params=params, public=public))

    def post(
        self,
        path: str,
        body: Document | None = None,
        *,
        params: Params | None = None,
        key: str = "",
    ) -> Json:
        """`key` is the Idempotency-Key."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._read(self._send("POST", path, params=params, body=body, headers=headers))

    def delete(self, path: str) -> None:
        self._send("DELETE", path)

    def remove(self, path: str, params: Params) -> Json:
        """What a deletion that goes on answers."""
        return self._read(self._send("DELETE", path, params=params))

    def resource(self, name: str) -> str:
        """The identifier of a resource that the settings name.

        Raises:
            ConfigError: if the facility has no such resource.
        """
        return str(self.resource_document(name)["id"])

    def resource_document(self, name: str) -> Document:
        """As it was when it was first asked for: what never changes of it."""
        if name not in self._resources:
            self._resources[name] = self._look_up(name)
        return self._resources[name]

    def _look_up(self, name: str) -> Document:
        try:
            rows = objects(self.get("status/resources", {"limit": 1000}, public=True), self.where)
        except errors.Refused as refused:
            raise ConfigError(
                f"there is no IRI API of version {self.site.version} at this address: {refused.said}",
                where=self.where,
                next_step="correct `api_url` and `version` of the site, then run `beamline config check`",
            ) from refused
        found = [row for row in rows if row.get("id") == name or str(row.get("name")).lower() == name.lower()]
        if not found or not isinstance(found[0].get("id"), str):
            names = ", ".join(sorted(str(row.get("name")) for row in rows)) or "none"
            raise ConfigError(
                f"the facility has no resource {name!r}; it has {names}",
                where=self.where,
                next_step="correct `resource` or `storage` of the site, then run `beamline config check`",
            )
        return found[0]

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Document | None = None,
        headers: Mapping[str, str] | None = None,
        public: bool = False,
    ) -> httpx.Response:
        token = "" if public else self.bearer.token()
        response = self._once(method, path, params, body, headers, token)
        if response.status_code == HTTPStatus.UNAUTHORIZED and token:
            renewed = self.bearer.renew(token)
            if renewed is not None:
                response = self._once(method, path, params, body, headers, renewed)
        if response.is_success:
            return response
        refused = errors.refusal(response)
        if isinstance(refused, errors.Refused) and refused.status == HTTPStatus.UNAUTHORIZED:
            raise errors.not_let_in(refused, token=self.site.globus_scope or self.site.token_variable)
        raise refused

    def _once(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: Document | None,
        headers: Mapping[str, str] | None,
        token: str,
    ) -> httpx.Response:
        signed = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            return self._http.request(method, path, params=_words(params), json=body, headers=signed)
        except httpx.UnsupportedProtocol as error:
            raise ConfigError(
                f"{self.site.api_url!r} is no address of a facility",
                where=self.where,
                next_step="correct `api_url` of the site: it begins with https://",
            ) from error
        except httpx.RequestError as error:
            raise errors.unanswered(error, f"{method} {self._http.base_url}{path}") from error

    def _read(self, response: httpx.Response) -> Json:
        try:
            found: Json = response.json()
        except ValueError as error:
            raise errors.not_iri(self.where) from error
        return found


def _words(params: Params | None) -> dict[str, str] | None:
    """Booleans as the API spells them."""
    if params is None:
        return None
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in params.items()}


def objects(found: Json, where: str) -> list[Document]:
    """Raises: ServiceUnavailable where it is no list."""
    if not isinstance(found, list):
        raise errors.not_iri(where)
    return [each for each in found if isinstance(each, dict)]


def an_object(found: Json, where: str) -> Document:
    if not isinstance(found, dict):
        raise errors.not_iri(where)
    return found
