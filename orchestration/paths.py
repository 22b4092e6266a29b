"""Paths that cannot leave their root.

A `RelativePath` is what a scan is called below the root of an endpoint. It is a type of its own so that neither an
absolute path nor one with ``..`` can reach an adapter: they fail where they enter.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath

from orchestration.errors import InvalidPath

QUARANTINE = ".quarantine"
"""The folder below the root of an endpoint where copies lie that are to be deleted: nobody looks for data there."""

MAX_NAME_BYTES = 255
"""Longest name of one file or folder on the file systems in use (NAME_MAX)."""


@dataclass(frozen=True, order=True)
class RelativePath:
    """A path below an endpoint's root, with ``/`` between its parts.

    Spaces, quotes, ``$(x)``, leading dashes and any printable Unicode are fine, and survive whole. Refused are:
    nothing, absolute paths, ``.`` and ``..``, control characters (a newline among them) and names over 255 bytes.
    """

    text: str

    def __post_init__(self) -> None:
        _check(self.text)

    @classmethod
    def parse(cls, text: str) -> RelativePath:
        """From user input: slashes around and doubled inside are dropped, nothing else is forgiven."""
        if text.startswith("/"):
            raise InvalidPath(f"{text!r} is absolute where a path below an endpoint's root is needed")
        return cls("/".join(part for part in text.split("/") if part))

    @property
    def pure(self) -> PurePosixPath:
        return PurePosixPath(self.text)

    @property
    def name(self) -> str:
        return self.pure.name

    @property
    def stem(self) -> str:
        return self.pure.stem

    @property
    def parent(self) -> RelativePath | None:
        """The folder it lies in; None directly below the root."""
        head = str(self.pure.parent)
        return None if head == "." else RelativePath(head)

    def beside(self, name: str) -> RelativePath:
        """Another name in the same folder."""
        return self.parent / name if self.parent else RelativePath(name)

    def __truediv__(self, name: str) -> RelativePath:
        return RelativePath(f"{self.text}/{name}")

    def __str__(self) -> str:
        return self.text


def _check(text: str) -> None:
    if not text:
        raise InvalidPath("the path is empty")
    if text.startswith("/"):
        raise InvalidPath(f"{text!r} is absolute where a path below an endpoint's root is needed")
    for part in text.split("/"):
        check_name(part, of=text)


def check_name(name: str, *, of: str) -> None:
    """Raises InvalidPath if this cannot be the name of a file or folder on the path it is a part `of`."""
    if name in {"", ".", ".."}:
        raise InvalidPath(f"{of!r} has a part {name!r}, which could lead outside the endpoint's root")
    if name.isascii() and name.isprintable() and len(name) <= MAX_NAME_BYTES:
        return  # as almost all are, of which a folder may have 100,000
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in name):
        raise InvalidPath(f"{of!r} has a control character in {name!r}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidPath(f"the name {name[:40]!r}... has {len(name.encode())} bytes, over {MAX_NAME_BYTES}")
