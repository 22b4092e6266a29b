"""Whose a folder is, by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

PROPOSAL = "{proposal}"

SEVERAL = ""
"""In place of a proposal: what is there holds the folders of several."""


@dataclass(frozen=True)
class OwnerFolder:
    """Folders that belong to one proposal each: ``raw/{proposal}``, or ``raw/{proposal}_*`` where more stands behind.

    ``*`` stands for any part of one name. Neither it nor the proposal begins with a dot: such folders are nobody's.
    """

    pattern: str

    def __post_init__(self) -> None:
        parts = self.pattern.split("/")
        if self.pattern.count(PROPOSAL) != 1 or PROPOSAL not in parts[-1] or not all(parts):
            raise ValueError(f"must end with a name with {PROPOSAL} in it, such as `raw/{PROPOSAL}`")
        if ".." in parts or "." in parts:
            raise ValueError("must not have `.` or `..` in it")

    def owner(self, path: str) -> str | None:
        """The proposal whose folder has the path, which is below the endpoint's root; None if it is nobody's.

        SEVERAL if it is a folder in which such folders are.
        """
        names = path.split("/")
        for name, part in zip(names, self._parts, strict=False):
            found = part.fullmatch(name)
            if found is None:
                return None
            if part is self._parts[-1]:
                return found["proposal"]
        return SEVERAL

    @cached_property
    def _parts(self) -> tuple[re.Pattern[str], ...]:
        return tuple(_part(text) for text in self.pattern.split("/"))


@dataclass(frozen=True, kw_only=True)
class OwnedTree:
    """An endpoint with such folders, as jobs of a place see it."""

    endpoint: str
    root: str
    """The absolute path that they call the endpoint's root by."""
    folder: OwnerFolder

    def owner(self, path: str) -> str | None:
        """As `OwnerFolder.owner`, of an absolute path without ``..``. What has the whole tree in it is of SEVERAL."""
        parts, root = _names(path), _names(self.root)
        if root[: len(parts)] == parts:
            return SEVERAL
        if parts[: len(root)] != root:
            return None
        return self.folder.owner("/".join(parts[len(root) :]))


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _part(text: str) -> re.Pattern[str]:
    hidden = r"(?!\.)" if text.startswith(("*", PROPOSAL)) else ""
    words = re.split(r"(\*|\{proposal\})", text)
    known = {"*": ".*", PROPOSAL: "(?P<proposal>.+?)"}
    return re.compile(hidden + "".join(known.get(word, re.escape(word)) for word in words), re.DOTALL)
