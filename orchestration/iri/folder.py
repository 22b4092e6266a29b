"""The folder of a job at the facility, as the files interface shows it: what its runner left, and what stops it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from orchestration.iri.files import Files
from orchestration.remote import CANCEL_MARKER, REPORT, STARTED

_GIVEN_UP = "given-up"
"""In a cancel marker: the job was thought lost, and nobody wished to cancel it."""


@dataclass(frozen=True, kw_only=True)
class JobFolder:
    """`path` is as jobs see it. What the methods raise is what `Files` raises.

    The runner leaves its mark first and looks for the cancel marker then. Who makes the marker first and looks for the
    mark then knows: if there is none, the job never does anything, whenever its turn comes.
    """

    files: Files
    path: str

    def report(self) -> bytes | None:
        return self.files.read(posixpath.join(self.path, REPORT))

    def begun(self) -> bool:
        """Whether its runner has begun, or is over."""
        return STARTED in self.files.names(self.path)

    def shut(self) -> None:
        """Return once the marker stands that keeps any job of this folder from beginning, and stops one that runs."""
        self.files.make_directory(posixpath.join(self.path, CANCEL_MARKER))

    def give_up(self) -> None:
        """`shut`, and leave word that it was not a person's wish."""
        self.files.make_directory(posixpath.join(self.path, CANCEL_MARKER, _GIVEN_UP))

    def given_up(self) -> bool:
        return _GIVEN_UP in self.files.names(posixpath.join(self.path, CANCEL_MARKER))
