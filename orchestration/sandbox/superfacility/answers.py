"""The shape of the Superfacility API's error answers, and of what its forms say."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestration.ledger.service import Json

_TRUE = {"true", "1", "yes", "on"}


class Refusal(Exception):
    """An error answer: ``{"detail": ...}``."""

    def __init__(self, status: int, detail: Json, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def error_answer(_: Request, error: Exception) -> JSONResponse:
    """Exception handler for Refusal."""
    if not isinstance(error, Refusal):
        raise error
    return JSONResponse({"detail": error.detail}, status_code=error.status, headers=error.headers)


def not_found() -> Refusal:
    return Refusal(404, "Not found")


def field(form: FormData, name: str) -> str:
    """A field that must be there. Raises: Refusal 422."""
    value = form.get(name)
    if not isinstance(value, str):
        problem: Json = {"loc": ["body", name], "msg": "field required", "type": "value_error.missing"}
        raise Refusal(422, [problem])
    return value


def optional(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def texts(form: FormData, name: str) -> tuple[str, ...]:
    """A field that may be there several times."""
    return tuple(value for value in form.getlist(name) if isinstance(value, str))


def truth(text: str) -> bool:
    return text.lower() in _TRUE


def asked(query: QueryParams, name: str) -> bool:
    return truth(query.get(name, "false"))


def natural(query: QueryParams, name: str) -> int | None:
    """A whole number from the query. Raises: Refusal 422."""
    given = query.get(name)
    if given is None:
        return None
    if not given.isdigit():
        problem: Json = {"loc": ["query", name], "msg": "value is not a valid integer", "type": "type_error.integer"}
        raise Refusal(422, [problem])
    return int(given)
