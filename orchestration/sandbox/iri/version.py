"""In what the two versions of the API differ."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Unit(enum.StrEnum):
    NODE_HOURS = "node_hours"
    BYTES = "bytes"


_UNITS = {
    Unit.NODE_HOURS: "urn:doe-iri:allocation:compute:node-hours",
    Unit.BYTES: "urn:doe-iri:allocation:storage:bytes",
}
_COMPRESSION = "urn:doe-iri:compression:"


@dataclass(frozen=True)
class Version:
    number: int

    @property
    def prefix(self) -> str:
        return f"/api/v{self.number}"

    @property
    def idempotent(self) -> bool:
        """Whether submissions may carry an Idempotency-Key."""
        return self.number > 1

    @property
    def storage(self) -> bool:
        """Whether there is a storage router, and file operations are asked for with POST."""
        return self.number > 1

    def unit(self, unit: Unit) -> str:
        return unit.value if self.number == 1 else _UNITS[unit]

    def resource_type(self, kind: str) -> str:
        return kind if self.number == 1 else f"urn:doe-iri:resource:{kind}"

    def compression(self, word: str | None) -> str | None:
        """``none``, ``gzip``, ``bzip2`` or ``xz``; None for what this version does not know."""
        plain = (word or f"{'' if self.number == 1 else _COMPRESSION}gzip").removeprefix(
            "" if self.number == 1 else _COMPRESSION
        )
        known = self.number == 1 or word is None or word.startswith(_COMPRESSION)
        return plain if known and plain in {"none", "gzip", "bzip2", "xz"} else None
