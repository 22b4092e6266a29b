"""Stand-in for Globus Transfer: listing, stat, mkdir and rename at a collection."""

from __future__ import annotations

import errno
import fnmatch
import os
import posixpath
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.globus import answers
from orchestration.sandbox.globus.answers import ApiError
from orchestration.sandbox.globus.collections import Collection, Collections
from orchestration.sandbox.globus.submission import require_consent
from orchestration.sandbox.globus.tasks import as_json
from orchestration.sandbox.globus.tokens import TRANSFER, Tokens
from orchestration.sandbox.globus.views import file_view


class Operations:
    def __init__(self, collections: Collections, tokens: Tokens, effects: Effects) -> None:
        self._collections = collections
        self._tokens = tokens
        self._effects = effects

    def routes(self) -> list[Route]:
        base = "/v0.10/operation/endpoint/{id}"
        return [
            Route(f"{base}/ls", self.ls),
            Route(f"{base}/stat", self.stat),
            Route(f"{base}/mkdir", self.mkdir, methods=["POST"]),
            Route(f"{base}/rename", self.rename, methods=["POST"]),
        ]

    async def ls(self, request: Request) -> JSONResponse:
        path = request.query_params.get("path") or "/~/"
        collection = self._admit(request, path, "DirListing")
        hidden = request.query_params.get("show_hidden", "1").lower() not in {"0", "false"}
        try:
            rows = await run_in_threadpool(_listing, collection, path, hidden=hidden)
        except OSError as error:
            raise _refusal(error, "DirListing", "list", collection, path) from error
        for clause in request.query_params.getlist("filter"):
            for part in filter(None, clause.split("/")):
                keep = _file_filter(part)
                rows = [row for row in rows if keep(row)]
        return JSONResponse(_listing_view(request, collection, path, rows))

    async def stat(self, request: Request) -> JSONResponse:
        path = request.query_params.get("path", "/")
        collection = self._admit(request, path, "Stat")
        name = posixpath.basename(collection.normal(path)) or "/"
        try:
            return JSONResponse(file_view(collection.local(path), name))
        except FileNotFoundError as error:
            message = f"Path not found, {_circumstances(collection, path, 'list', 'No such file or directory')}"
            raise ApiError(404, "NotFound", message) from error
        except OSError as error:
            raise _refusal(error, "Stat", "list", collection, path) from error

    async def mkdir(self, request: Request) -> JSONResponse:
        """The parent must exist."""
        path = documents.text(await answers.body(request), "path")
        collection = self._admit(request, path, "Mkdir", write=True)
        try:
            collection.local(path).mkdir()
        except OSError as error:
            raise _refusal(error, "Mkdir", "mkdir", collection, path) from error
        message = "The directory was created successfully"
        return answers.result(request, "DirectoryCreated", message, kind="mkdir_result", status=202)

    async def rename(self, request: Request) -> JSONResponse:
        body = await answers.body(request)
        old, new = documents.text(body, "old_path"), documents.text(body, "new_path")
        collection = self._admit(request, old, "Rename", write=True)
        self._admit(request, new, "Rename", write=True)
        try:
            _rename(collection, old, new)
        except OSError as error:
            raise _refusal(error, "Rename", "rename", collection, old) from error
        self._effects.happened("renamed", answers.new_id(), key=old, paths=(old, new))
        return answers.result(request, "FileRenamed", "File or directory renamed successfully")

    def _admit(self, request: Request, path: str, what: str, *, write: bool = False) -> Collection:
        """The collection, if this client may do this there. Raises: ApiError."""
        token = self._tokens.require(request, TRANSFER)
        collection = self._collections.get(request.path_params["id"])
        require_consent(token, collection)
        if not path:
            raise answers.bad_request("A path is required")
        if not collection.switches.connected:
            message = "The GCP endpoint is not currently connected to Globus"
            raise ApiError(502, f"ExternalError.{what}Failed.GCDisconnected", message)
        if not collection.allows(token.subject, path, write=write):
            circumstances = _circumstances(collection, path, what.lower(), "Path not allowed.")
            raise ApiError(403, "EndpointPermissionDenied", f"Denied by endpoint, {circumstances}")
        return collection


def _rename(collection: Collection, old: str, new: str) -> None:
    """Raises OSError."""
    if os.path.lexists(collection.local(new)):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
    if collection.volume(old) != collection.volume(new):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), new)
    os.rename(collection.local(old), collection.local(new))


def _listing(collection: Collection, path: str, *, hidden: bool) -> list[Document]:
    place = collection.local(path)
    names = [name for name in os.listdir(place) if hidden or not name.startswith(".")]
    rows = []
    for name in names:
        try:
            rows.append(file_view(place / name, name))
        except FileNotFoundError:
            continue  # removed since it was listed
    return rows


def _listing_view(request: Request, collection: Collection, path: str, rows: list[Document]) -> Document:
    rows.sort(key=lambda row: (documents.text(row, "type"), documents.text(row, "name")))
    limit, offset = answers.natural(request, "limit", 100_000), answers.natural(request, "offset", 0)
    part = rows[offset : offset + limit]
    return {
        "DATA_TYPE": "file_list",
        "endpoint": collection.id,
        "path": posixpath.join(collection.normal(path), ""),
        "absolute_path": None,
        "rename_supported": True,
        "symlink_supported": True,
        "length": len(part),
        "total": len(rows),
        "DATA": as_json(part),
    }


def _file_filter(clause: str) -> Callable[[Document], bool]:
    """``name:~*.h5``, ``name:!~.*``, ``type:dir``, ``size:>1000``."""
    field, _, text = clause.partition(":")
    values = text.split(",")
    match field:
        case "name":
            return lambda row: any(_name_matches(documents.text(row, "name"), value) for value in values)
        case "type":
            return lambda row: row["type"] in values
        case "size" if text[:1] in {"<", ">"} and text[1:].isdigit():
            bound, less = int(text[1:]), text[0] == "<"
            return lambda row: documents.whole(row, "size") < bound if less else documents.whole(row, "size") > bound
        case _:
            raise answers.bad_request(f"Files cannot be filtered by '{clause}'")


def _name_matches(name: str, wanted: str) -> bool:
    if wanted.startswith("!"):
        return not _name_matches(name, wanted[1:])
    if wanted.startswith("~"):
        return fnmatch.fnmatchcase(name.lower(), wanted[1:].lower())
    return name == wanted.removeprefix("=")


def _circumstances(collection: Collection, path: str, verb: str, message: str) -> str:
    return (
        f"Error ({verb})\nEndpoint: {collection.name} ({collection.id})\nServer: 127.0.0.1:443\n"
        f"Message: {message}\n---\nDetails: Error: '{path}' {message}\\r\\n550 End.\\r\\n\n"
    )


def _refusal(error: OSError, what: str, verb: str, collection: Collection, path: str) -> ApiError:
    circumstances = _circumstances(collection, path, verb, error.strerror or str(error))
    match error:
        case FileExistsError():
            return ApiError(502, f"ExternalError.{what}Failed.Exists", f"Path already exists, {circumstances}")
        case FileNotFoundError():
            return ApiError(404, "ClientError.NotFound", f"Path not found, {circumstances}")
        case PermissionError():
            return ApiError(403, "EndpointPermissionDenied", f"Denied by endpoint, {circumstances}")
        case NotADirectoryError():
            return ApiError(502, f"ExternalError.{what}Failed.NotDirectory", f"Not a directory, {circumstances}")
        case _:
            return ApiError(502, f"ExternalError.{what}Failed", f"Endpoint Error, {circumstances}")
