"""JSON documents: what is a value of one, and files that appear whole."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from orchestration.science.errors import OutputFailed
from orchestration.science.staging import publish, staging

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Document: TypeAlias = "dict[str, Json]"


def number(value: float | None) -> float | None:
    """None, too, for what is not finite: JSON has no word for it."""
    return float(value) if value is not None and math.isfinite(value) else None


def dump(document: Document) -> str:
    """As JSON text for people; one that had a NaN would be a defect, and is refused."""
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def packed(document: Document) -> bytes:
    """As JSON for programs, which take it to a length."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Names of files need not be UTF-8: what remains of their bytes becomes an escape of JSON.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def load(path: Path) -> Document:
    """A document that this program wrote. Raises OSError, or ValueError if it is not one."""
    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not one JSON object")
    return found


def put(path: Path, document: Mapping[str, Json]) -> None:
    """Write a document, packed, in place of what may be there, in one step.

    Raises:
        OutputFailed: if that cannot be done.
    """
    with staging(path.parent) as folder:
        staged = folder / "document.json"
        try:
            staged.write_bytes(packed(dict(document)))
        except OSError as error:
            raise OutputFailed(f"a document cannot be written: {error.strerror}", where=str(path)) from error
        publish(staged, path)
