"""How a moment is told to people: in pages of the terminal, in mails, and in the sentences of errors."""

from __future__ import annotations

from datetime import datetime


def clock(seconds: float) -> str:
    """Local time with its zone: ``2026-12-24 08:00:00 PST``. Sentences are kept, and read where it is another time."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def day(seconds: float) -> str:
    """Of the local calendar."""
    return clock(seconds)[:10]
