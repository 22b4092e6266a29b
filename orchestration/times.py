"""How a moment is told: to people, in pages of the terminal, mails and sentences of errors; to programs, in JSON."""

from __future__ import annotations

from datetime import UTC, datetime


def clock(seconds: float) -> str:
    """Local time with its zone: ``2026-12-24 08:00:00 PST``. Sentences are kept, and read where it is another time."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def day(seconds: float) -> str:
    """Of the local calendar."""
    return clock(seconds)[:10]


def iso(seconds: float | None) -> str | None:
    """For programs, in UTC: ``2026-12-24T16:00:00.000+00:00``, which sorts as the moments do."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
