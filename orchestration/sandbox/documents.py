"""Reading JSON documents whose sender is not to be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import cast

from starlette.requests import Request

from orchestration.ledger.service import Document, Json


class NotADocument(ValueError):
    """Raised when a body is not one JSON object (NaN and Infinity are not JSON)."""


def _refuse_constant(name: str) -> Json:
    raise NotADocument(f"{name} is not JSON")


def decode(body: bytes) -> Document:
    """Raises: NotADocument."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except ValueError as error:
        raise NotADocument(str(error)) from error
    if not isinstance(value, dict):
        raise NotADocument(f"an object was expected, not {type(value).__name__}")
    return cast(Document, value)


async def received(request: Request) -> Document:
    """The body of a request. Raises: NotADocument."""
    return decode(await request.body())


def text(document: Document, key: str, default: str = "") -> str:
    value = document.get(key)
    return value if isinstance(value, str) else default


def flag(document: Document, key: str, *, default: bool = False) -> bool:
    value = document.get(key)
    return value if isinstance(value, bool) else default


def number(document: Document, key: str, default: float = 0.0) -> float:
    value = document.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def whole(document: Document, key: str, default: int = 0) -> int:
    return int(number(document, key, default))


def object_at(document: Document, key: str) -> Document:
    """The object under a key; empty where there is none."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def objects(document: Document, key: str) -> list[Document]:
    value = document.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(document: Document, key: str) -> list[str]:
    value = document.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def selected(document: Document, fields: Iterable[str]) -> Document:
    """Only these fields; all where none is named."""
    names = [name for name in fields if name]
    return {name: document[name] for name in names if name in document} if names else document
