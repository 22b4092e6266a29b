"""Values as the catalogue can take them.

The server dies of a null in the scientific metadata, refuses NaN, and stores keys with ``.`` or ``$`` under another
name; it also warns about, and does not convert, the unit ``µm`` with a micro sign.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from orchestration.errors import InvalidInput
from orchestration.ledger.service import Document, Json

_MICRO_SIGNS = ("\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}")
_KEYS_OF_THE_SERVER = frozenset({"valueSI", "unitSI"})


def document(values: Mapping[str, Json]) -> Document:
    """Without nulls and numbers that are not finite, at any depth, and with keys that come back as they were sent."""
    cleaned: Document = {}
    for name, value in values.items():
        kept = _value(value)
        if kept is not None:
            cleaned[_free(name.replace(".", "_").replace("$", "_"), cleaned)] = kept
    if isinstance(unit := cleaned.get("unit"), str) and "value" in cleaned:
        cleaned["unit"] = _plain(unit)
    return cleaned


def utc(moment: datetime) -> str:
    """``2026-03-01T17:04:05.678Z``: the server reads a time without a zone as its own."""
    if moment.tzinfo is None:
        raise InvalidInput(f"the time {moment.isoformat()} has no zone", where="catalogue record")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def same(sent: Json, stored: Json) -> bool:
    """Whether a stored value is what was sent, behind what the server adds and rewrites."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        names = stored.keys() - (_KEYS_OF_THE_SERVER - sent.keys())
        return names == sent.keys() and all(same(value, stored[name]) for name, value in sent.items())
    if isinstance(sent, list) and isinstance(stored, list):
        return len(sent) == len(stored) and all(map(same, sent, stored))
    if isinstance(sent, str) and isinstance(stored, str):
        return sent.rstrip("/") == stored.rstrip("/") or _moment(sent) == _moment(stored) is not None
    return sent == stored


def _value(value: Json) -> Json:
    if isinstance(value, dict):
        return document(value)
    if isinstance(value, list):
        return [kept for item in value if (kept := _value(item)) is not None]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _free(name: str, taken: Mapping[str, Json]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)


def _plain(unit: str) -> str:
    for sign in _MICRO_SIGNS:
        unit = unit.replace(sign, "u")
    return unit


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
