"""What an answer of the catalogue means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time

import httpx

from orchestration.errors import CatalogueRefused, ConfigError, OrchestrationError, ServiceUnavailable
from orchestration.ledger.service import Json

_TRANSIENT = frozenset({408, 425, 429})
_LONGEST_MESSAGE = 600


def explain(response: httpx.Response, what: str) -> OrchestrationError:
    """The error to raise for an answer that is not a success; `what` is what was being done, for the reader."""
    status, place = response.status_code, _place(response)
    said = message(response)
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServiceUnavailable(
            f"the catalogue answered {status} when asked to {what}: {said}",
            where=place,
            retry_after=retry_after(response),
        )
    if response.is_redirect:
        target = response.headers.get("location", "elsewhere")
        return ConfigError(
            f"the catalogue sends this service to {target}",
            where=place,
            next_step="set `scicat.api_url` to the address of the API itself",
        )
    if status == HTTPStatus.FORBIDDEN:
        return CatalogueRefused(
            f"this service's account may not {what}: {said}",
            where=place,
            next_step="ask the catalogue's administrator to give the account this right, then start the flow again",
        )
    return CatalogueRefused(
        f"the catalogue refused to {what} ({status}): {said}",
        where=place,
        next_step="correct what the message names in the scan or the beamline's settings, then start the flow again",
    )


def unanswered(error: httpx.TransportError, what: str, *, where: str) -> ServiceUnavailable:
    detail = str(error) or type(error).__name__
    return ServiceUnavailable(f"no answer from the catalogue when asked to {what}: {detail}", where=where)


def message(response: httpx.Response) -> str:
    """What the server says is wrong, one sentence for each property.

    The message is a text, a list of texts, or (on creation) a JSON list inside a text, with the constraints that each
    property fails.
    """
    try:
        body: Json = response.json()
    except ValueError:
        return response.reason_phrase or "no explanation"
    said = body.get("message", body.get("error")) if isinstance(body, dict) else body
    texts = list(dict.fromkeys(_texts(said)))
    return ("; ".join(texts) or response.reason_phrase or "no explanation")[:_LONGEST_MESSAGE]


def retry_after(response: httpx.Response) -> float | None:
    """Seconds, from either form of the header."""
    header = response.headers.get("retry-after", "")
    if header.isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except (TypeError, ValueError):
        return None


def _texts(said: Json) -> Iterator[str]:
    if isinstance(said, str):
        inner = _json(said)
        if inner is None:
            yield said
        else:
            yield from _texts(inner)
    elif isinstance(said, list):
        for item in said:
            yield from _texts(item)
    elif isinstance(said, dict):
        yield from _constraints(said)


def _constraints(problem: dict[str, Json]) -> Iterator[str]:
    constraints = problem.get("constraints")
    if isinstance(constraints, dict):
        name = str(problem.get("property", ""))
        for text in constraints.values():
            yield str(text) if name in str(text) else f"{name}: {text}"
    children = problem.get("children")
    if isinstance(children, list):
        yield from _texts(children)
    if "message" in problem:
        yield from _texts(problem["message"])


def _json(text: str) -> Json:
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        value: Json = json.loads(text)
    except ValueError:
        return None
    return value


def _place(response: httpx.Response) -> str:
    request = response.request
    return f"{request.method} {request.url.copy_with(query=None, userinfo=b'')}"
