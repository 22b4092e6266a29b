"""Time as the stand-ins write it: UTC, whole seconds, with an offset."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def stamp(moment: datetime | None = None) -> str:
    """ISO 8601 with ``+00:00``, as Globus writes times of tasks and events."""
    return (moment or now()).replace(microsecond=0).isoformat()


def parse(text: str) -> datetime:
    """From ISO 8601; a time without an offset is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
