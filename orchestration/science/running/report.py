"""How a job ended, in one small document that survives everything but the loss of its disk."""

from __future__ import annotations

import enum
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "report.json"
TAIL_BYTES = 4096
"""How much of the end of each output stream is part of a report."""


class Reason(enum.StrEnum):
    """Why a job is over."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    """It was stopped at the end of its time."""
    CANCELLED = "cancelled"
    """Somebody left a marker in its folder."""
    TERMINATED = "terminated"
    """The scheduler told it to end: its walltime, a cancellation, another job of more importance."""
    LATE = "late"
    """It was to begin earlier than it could, and did not begin at all."""
    UNSTARTABLE = "unstartable"
    OUTDATED = "outdated"
    """The science programs there are not of the version that was asked for; nothing was begun."""


EXIT_CODES = {
    Reason.TIMEOUT: 124,
    Reason.CANCELLED: 130,
    Reason.TERMINATED: 143,
    Reason.LATE: 75,
    Reason.UNSTARTABLE: 127,
    Reason.OUTDATED: 78,
}
OUTPUT_MISSING = 65
DUPLICATE = 76
"""Exit code of a second start of the same job while the first one has no report yet."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """`code` is negative for a signal. `reported` is the program's own account of its error. Times in seconds."""

    reason: Reason
    code: int | None = None
    error: str = ""
    started_at: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    outputs: list[dict[str, Any]] = field(default_factory=list)
    stdout: str = ""
    stderr: str = ""
    reported: dict[str, Any] | None = None
    host: str = ""
    python: str = ""
    science_version: str = ""

    @property
    def exit_code(self) -> int:
        if self.reason is not Reason.EXITED:
            return EXIT_CODES[self.reason]
        if self.code:
            return self.code if self.code > 0 else 128 - self.code
        return OUTPUT_MISSING if any(each["problem"] for each in self.outputs) else 0

    def document(self) -> dict[str, Any]:
        return {"version": 1, "exit_code": self.exit_code, **vars(self), "reason": self.reason.value}

    def write(self, folder: Path) -> None:
        """In one step, and durably: who sees a report sees all of it."""
        part = folder / f".{FILE}.{os.getpid()}"
        with part.open("w", encoding="utf-8") as file:
            json.dump(self.document(), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / FILE)


def read(folder: Path) -> dict[str, Any] | None:
    """The document of the report in a job's folder; None while there is none."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(found, dict):
        raise ValueError(f"{folder / FILE} is no report")
    return found


def tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
