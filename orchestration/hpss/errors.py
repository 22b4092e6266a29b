"""Every error of the archive programs, grouped by what the reader of it can do.

::

    HpssError
    ├── ArchiveUnavailable      hsi or htar got no answer, or one that says nothing certain: try again later
    ├── MemberChanged           a file is not (any more) what was planned: plan anew
    ├── MemberDamaged           what is read back is not what was stored: the archive has lost it
    ├── ObjectMissing           the archive has no such bundle or file
    ├── ObjectForeign           something of that name is there that this program did not put there
    ├── NoSuchMember            a bundle has no member of that name
    ├── DestinationTaken        other bytes stand where a file was to be brought
    └── Misused                 the program was called wrongly

Each says what happened, where, and what to do next, in one sentence (``str(error)``), and keeps the three apart.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar

ERROR_FILE = "ORCHESTRATION_ERROR_FILE"
"""Environment variable: where the runner of a job looks for the program's own account of its error."""


class HpssError(Exception):
    """Base of all errors that are meant to be read by a person."""

    next_step_default: ClassVar[str] = "read the log of the job, then start the flow again"

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what = what.rstrip(".")
        self.where = where
        self.next_step = next_step.rstrip(".") or self.next_step_default
        place = f" ({where})" if where else ""
        super().__init__(" ".join(f"{self.what}{place}. Next: {self.next_step}.".split()))


class ArchiveUnavailable(HpssError):
    """Raised when hsi or htar gives no answer, or one that says nothing certain."""

    next_step_default = (
        "wait until HPSS is up again (`beamline doctor` shows NERSC's status), then start the flow again"
    )


class MemberChanged(HpssError):
    """Raised when a file is not, or not any more, what was planned."""

    next_step_default = "wait until nobody writes there, then start the flow again: it plans anew"


class MemberDamaged(HpssError):
    """Raised when what is read back from the archive is not what was stored."""

    next_step_default = "keep every other copy of it, and archive it again from one of them"


class ObjectMissing(HpssError):
    """Raised when the archive has no such bundle or file."""

    next_step_default = "look with `hsi ls` who removed it; archive it again from another copy"


class ObjectForeign(HpssError):
    """Raised when something of that name is there that this program did not put there; it is left alone."""

    next_step_default = "rename it with `hsi mv`, or find out whose it is, then start the flow again"


class NoSuchMember(HpssError):
    """Raised when a bundle has no member of that name."""

    next_step_default = "ask for a member of the bundle"


class DestinationTaken(HpssError):
    """Raised when other bytes stand where a file was to be brought; they are left alone."""

    next_step_default = "move them away, then start the flow again"


class Misused(HpssError):
    """Raised when the program was called wrongly."""

    next_step_default = "report this defect with the log"


def account(error: HpssError) -> None:
    """Leave it for the runner of the job."""
    if path := os.environ.get(ERROR_FILE):
        found = {"type": type(error).__name__, "what": error.what, "where": error.where, "next_step": error.next_step}
        Path(path).write_text(json.dumps(found), encoding="utf-8")
