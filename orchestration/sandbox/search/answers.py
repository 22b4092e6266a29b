"""The shape of Globus Search's error documents, and how a request is read."""

from __future__ import annotations

import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents

MAX_REQUEST = 10_000_000
"""Bytes."""


class SearchError(Exception):
    """An error answer: a GError document."""

    def __init__(self, status: int, code: str, message: str, error_data: Json = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.document: Document = {
            "@datatype": "GError",
            "@version": "2017-09-01",
            "code": code,
            "message": message,
            "request_id": uuid.uuid4().hex,
            "status": status,
        }
        if error_data is not None:
            self.document["error_data"] = error_data


def invalid(where: tuple[str, ...], said: str) -> SearchError:
    """What the body says at `where` is wrong: ``error_data.messages.json.<where>: [said]``."""
    found: Json = [said]
    for key in reversed(("messages", "json", *where)):
        found = {key: found}
    return SearchError(400, "BadRequest.ValidationError", "Request failed input validation.", found)


def unsupported(what: str) -> SearchError:
    """The real service could do it."""
    return SearchError(400, "BadRequest.Generic", f"The sandbox's search has no {what}")


def error_answer(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for SearchError."""
    if not isinstance(error, SearchError):
        raise error
    return JSONResponse(error.document, status_code=error.status)


async def body(request: Request) -> Document:
    """The JSON object sent. Raises: SearchError 400, or 413 if it is too large."""
    content = await request.body()
    if len(content) > MAX_REQUEST:
        raise SearchError(413, "RequestEntityTooLarge.Generic", "Requests are limited to 10MB")
    try:
        return documents.decode(content)
    except documents.NotADocument as error:
        raise SearchError(400, "BadRequest.Generic", f"{request.url.path} requires a JSON payload: {error}") from error


def parameter(request: Request, name: str) -> str:
    """A parameter of the query that must be there. Raises: SearchError 400."""
    found = request.query_params.get(name)
    if found is None:
        said: Json = {"messages": {"query": {name: ["Missing data for required field."]}}}
        raise SearchError(400, "BadRequest.ValidationError", "Request failed input validation.", said)
    return found


def whole(document: Document, name: str, default: int) -> int:
    """A whole number, not negative. Raises: SearchError 400."""
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise invalid((name,), "Not a valid integer.")
    return value
