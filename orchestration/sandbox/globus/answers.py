"""The shape of Globus error documents, and small parts of others."""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents

_LETTERS = string.ascii_letters + string.digits


class ApiError(Exception):
    """An error answer: ``{code, message, request_id, resource}`` and what `extra` adds."""

    def __init__(self, status: int, code: str, message: str, extra: Mapping[str, Json] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.extra = dict(extra or {})


def bad_request(message: str, suffix: str = "") -> ApiError:
    return ApiError(400, f"ClientError.BadRequest{suffix}", message)


def request_id() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(9))


def new_id() -> str:
    """Globus ids of tasks and submissions are time-based UUIDs."""
    return str(uuid.uuid1())


def resource(request: Request) -> str:
    """The path below the mount of the service."""
    return request.url.path.removeprefix(request.scope.get("root_path", ""))


def error_answer(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for ApiError."""
    if not isinstance(error, ApiError):
        raise error
    body = {"code": error.code, "message": error.message, "request_id": request_id(), "resource": resource(request)}
    return JSONResponse({**body, **error.extra}, status_code=error.status)


def result(
    request: Request, code: str, message: str, *, kind: str = "result", status: int = 200, **more: Json
) -> JSONResponse:
    body: Document = {"DATA_TYPE": kind, "code": code, "message": message, "request_id": request_id()}
    return JSONResponse(body | {"resource": resource(request)} | more, status_code=status)


async def body(request: Request) -> Document:
    """The JSON object sent. Raises: ApiError 400."""
    try:
        return await documents.received(request)
    except documents.NotADocument as error:
        raise bad_request(f"The body is not a JSON document: {error}") from error


def natural(request: Request, name: str, default: int) -> int:
    """A whole number from the query. Raises: ApiError 400."""
    given = request.query_params.get(name)
    if given is None:
        return default
    if not given.isdigit():
        raise bad_request(f"{name} must be a number, not {given!r}")
    return int(given)


def page(request: Request, rows: list[Document], kind: str, *, default: int = 10) -> JSONResponse:
    """One page by limit and offset, with the total."""
    limit, offset = natural(request, "limit", default), natural(request, "offset", 0)
    part = rows[offset : offset + limit]
    head: Document = {"DATA_TYPE": kind, "length": len(part), "limit": limit, "offset": offset, "total": len(rows)}
    return JSONResponse(head | {"DATA": list[Json](part)})
