"""Refusals, as the problem documents (RFC 9457) of the IRI API."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orchestration.ledger.service import Document, Json

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A refusal; `detail` is for people."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.added: Document = {}


class NotModified(Exception):
    """Raised when nothing has changed since the time that was named."""


def not_found(what: str) -> Problem:
    return Problem(404, f"{what} not found")


def invalid(error: ValidationError) -> Problem:
    """For a body or a parameter that is not as the API describes it; an unknown parameter is another matter (422)."""
    rows = [{"name": str((each["loc"] or ("body",))[-1]), "reason": each["msg"]} for each in error.errors()]
    problem = Problem(400, ", ".join(f"{row['name']}: {row['reason']}" for row in rows))
    problem.added = {"invalid_params": list[Json](dict(row) for row in rows)}
    return problem


async def problem_answer(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Problem):
        raise error
    return document(request, error.status, error.detail, headers=error.headers, added=error.added)


async def not_modified_answer(_request: Request, _error: Exception) -> Response:
    return Response(status_code=304)


async def http_answer(request: Request, error: Exception) -> JSONResponse:
    """For what the framework refuses by itself: no such route, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    detail = {404: "Invalid resource identifier.", 405: "HTTP method is not allowed for this resource."}
    headers = dict(error.headers or {})
    return document(request, error.status_code, detail.get(error.status_code, error.detail), headers=headers)


async def unforeseen_answer(request: Request, _error: Exception) -> JSONResponse:
    return document(request, 500, "An unexpected error occurred.")


def document(
    request: Request,
    status: int,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    added: Document | None = None,
) -> JSONResponse:
    phrase = HTTPStatus(status).phrase
    parts = urlsplit(str(request.url))
    body: Document = {
        "type": f"{parts.scheme}://{parts.netloc}/problems/{phrase.lower().replace(' ', '-')}",
        "title": phrase,
        "status": status,
        "detail": detail,
        "instance": urlunsplit((parts.scheme, parts.netloc, quote(parts.path, safe="/:@-._~"), "", "")),
    }
    return JSONResponse(body | (added or {}), status_code=status, headers=headers, media_type=MEDIA_TYPE)
