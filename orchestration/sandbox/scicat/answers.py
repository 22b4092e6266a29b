"""The shapes of SciCat's refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestration.ledger.service import Document
from orchestration.sandbox import documents

LARGEST_BODY = 16 * 1024 * 1024


class CatalogueError(Exception):
    """A refusal with its whole body."""

    def __init__(self, status: int, body: Document) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


def error_answer(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for CatalogueError."""
    if not isinstance(error, CatalogueError):
        raise error
    return JSONResponse(error.body, status_code=error.status)


def refusal(status: int, message: str, name: str = "") -> CatalogueError:
    body: Document = {"message": message, "statusCode": status}
    return CatalogueError(status, body | {"error": name} if name else body)


def forbidden() -> CatalogueError:
    return refusal(403, "Forbidden resource", "Forbidden")


def not_found(pid: str) -> CatalogueError:
    return refusal(404, f"dataset: {pid} not found", "Not Found")


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field, under the name of the constraint it breaks."""

    field: str
    constraint: str
    message: str

    @property
    def sentence(self) -> str:
        return f"{'property ' if self.constraint == 'whitelistValidation' else ''}{self.field} {self.message}"


def invalid_dataset(problems: Sequence[Problem]) -> CatalogueError:
    """As v3 refuses a new dataset: a JSON text inside the JSON."""
    rows = [{"property": one.field, "children": [], "constraints": {one.constraint: one.sentence}} for one in problems]
    return CatalogueError(400, {"status": 400, "message": json.dumps(rows)})


def invalid(problems: Sequence[Problem]) -> CatalogueError:
    """As everything else is refused."""
    sentences: Document = {"message": [one.sentence for one in problems]}
    return CatalogueError(400, sentences | {"error": "Bad Request", "statusCode": 400})


async def body(request: Request) -> Document:
    """The JSON object sent. Raises: CatalogueError 400, or 500 where it is too large, like the real backend."""
    raw = await request.body()
    if len(raw) > LARGEST_BODY:
        raise refusal(500, "Internal server error")
    try:
        return documents.decode(raw)
    except documents.NotADocument as error:
        raise refusal(400, str(error), "Bad Request") from error
