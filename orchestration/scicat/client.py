"""The few requests of the SciCat API (v3) that this service needs.

Each is made once: what to do when an answer is lost is decided by who asked. The exception is a login that turns out
to have expired, where nothing was done and the request is made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from orchestration.errors import CatalogueRefused, ServiceUnavailable
from orchestration.ledger.service import Document, Json
from orchestration.scicat import errors
from orchestration.scicat.auth import Login, bearer

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Seconds; a block of 5000 files takes the server some four."""

MAX_BODY = 15_000_000
"""Bytes. The server takes 16 MB, and calls what is larger an internal error, as if asking again could help."""


class ScicatClient:
    """A connection to one catalogue under one account. Safe to use from several threads; close it, or use ``with``."""

    def __init__(
        self,
        api_url: str,
        credentials: Callable[[], tuple[str, SecretStr]],
        *,
        timeout: httpx.Timeout = TIMEOUT,
    ) -> None:
        self._http = httpx.Client(base_url=api_url, timeout=timeout, headers={"Accept": "application/json"})
        self._login = Login(self._http, credentials)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def user(self) -> str:
        return self._login.token().user

    def create_dataset(self, payload: Mapping[str, Json]) -> str | None:
        """The PID under which the server stored it; None if there is already a record with the PID in `payload`."""
        what = "create a record"
        response = self._ask("POST", "datasets", what, body=payload, expected={HTTPStatus.CONFLICT})
        return None if response.status_code == HTTPStatus.CONFLICT else str(_object(response, what).get("pid"))

    def dataset(self, pid: str) -> Document | None:
        """The record; None if there is none."""
        what = f"show the record {pid}"
        response = self._ask("GET", _path(pid), what, expected={HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN})
        if response.status_code == HTTPStatus.FORBIDDEN:
            raise CatalogueRefused(
                f"this service's account {self.user} may not read the record {pid}",
                where=str(self._http.base_url),
                next_step="set `scicat.service_group` to a group of that account, so that it may read what it writes",
            )
        if response.status_code == HTTPStatus.NOT_FOUND or response.content in {b"", b"null"}:
            return None
        return _object(response, what)

    def update_dataset(self, pid: str, changes: Mapping[str, Json]) -> None:
        """Replace these fields. The scientific metadata is replaced whole; `type` and `pid` are refused."""
        self._ask("PATCH", _path(pid), f"update the record {pid}", body=changes)

    def blocks(self, pid: str) -> list[Document]:
        """The original datablocks: lists of files."""
        return self._list(pid, "origdatablocks")

    def add_block(self, pid: str, payload: Mapping[str, Json]) -> None:
        """The server does not notice that it already has the same one."""
        self._ask("POST", f"{_path(pid)}/origdatablocks", f"list files under {pid}", body=payload)

    def remove_block(self, pid: str, block_id: str) -> None:
        where = f"{_path(pid)}/origdatablocks/{quote(block_id, safe='')}"
        self._ask("DELETE", where, f"remove an outdated list of files of {pid}", expected={HTTPStatus.NOT_FOUND})

    def archived(self, pid: str) -> list[Document]:
        """The datablocks: lists of files as they are archived, each with the `archiveId` of what they are in."""
        return self._list(pid, "datablocks")

    def add_archived(self, pid: str, payload: Mapping[str, Json]) -> None:
        """The server does not notice that it already has the same one."""
        self._ask("POST", f"{_path(pid)}/datablocks", f"say where {pid} is archived", body=payload)

    def change_archived(self, pid: str, block_id: str, changes: Mapping[str, Json]) -> None:
        """Most accounts may not remove a datablock, and all that may add one may change it."""
        where = f"{_path(pid)}/datablocks/{quote(block_id, safe='')}"
        self._ask("PATCH", where, f"say where {pid} is archived no more", body=changes)

    def attachments(self, pid: str) -> list[Document]:
        return self._list(pid, "attachments")

    def add_attachment(self, pid: str, payload: Mapping[str, Json]) -> None:
        """The server does not notice that it already has the same one."""
        self._ask("POST", f"{_path(pid)}/attachments", f"attach a picture to {pid}", body=payload)

    def _list(self, pid: str, kind: str) -> list[Document]:
        what = f"list the {kind} of {pid}"
        found = _json(self._ask("GET", f"{_path(pid)}/{kind}", what), what)
        if not isinstance(found, list):
            raise _not_scicat(what, str(self._http.base_url))
        return [item for item in found if isinstance(item, dict)]

    def _ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        body: Mapping[str, Json] | None = None,
        expected: set[HTTPStatus] | frozenset[HTTPStatus] = frozenset(),
    ) -> httpx.Response:
        content = None if body is None else _encode(body, what)
        token = self._login.token()
        response = self._send(method, path, what, content, bearer(token))
        if _doubtful(response) and not self._login.holds(token):
            response = self._send(method, path, what, content, bearer(self._login.renew(token)))
        if not response.is_success and response.status_code not in expected:
            raise errors.explain(response, what)
        return response

    def _send(
        self, method: str, path: str, what: str, content: bytes | None, headers: dict[str, str]
    ) -> httpx.Response:
        if content is not None:
            headers = headers | {"Content-Type": "application/json"}
        try:
            return self._http.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            raise errors.unanswered(error, what, where=f"{method} {self._http.base_url.join(path)}") from error


def _doubtful(response: httpx.Response) -> bool:
    """Whether a stranger could have got this answer where we would have got another.

    The server does not say that a login has expired: it forbids, does not find, or finds nothing.
    """
    if response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return True
    return response.request.method == "GET" and response.content in {b"", b"[]", b"null"}


def _encode(body: Mapping[str, Json], what: str) -> bytes:
    content = json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    if len(content) > MAX_BODY:
        raise CatalogueRefused(
            f"the request to {what} has {len(content)} bytes, over the {MAX_BODY} that the catalogue takes",
            next_step="catalogue less metadata with the record",
        )
    return content


def _path(pid: str) -> str:
    return f"datasets/{quote(pid, safe='')}"


def _object(response: httpx.Response, what: str) -> Document:
    body = _json(response, what)
    if not isinstance(body, dict):
        raise _not_scicat(what, str(response.request.url))
    return body


def _json(response: httpx.Response, what: str) -> Json:
    try:
        body: Json = response.json()
    except ValueError as error:
        raise _not_scicat(what, str(response.request.url)) from error
    return body


def _not_scicat(what: str, where: str) -> ServiceUnavailable:
    # A gateway's own page, most often: it says nothing about what the catalogue did.
    return ServiceUnavailable(f"the answer when asked to {what} is not one of SciCat", where=where)
