"""The files of the facility, as a user finds them: listed, read and written by the system's own programs.

The kernel decides what the user may do; besides, nothing outside the facility's own directories is touched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from orchestration.ledger.service import Document
from orchestration.sandbox.superfacility.scheduler import Output, Scheduler

_ESCAPED = re.compile(r"\\([0-7]{3}|.)")
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class FilesError(Exception):
    """Raised when the user cannot have what they asked for; the text is what the system's program said."""


class Files:
    def __init__(self, scheduler: Scheduler, *, roots: Sequence[Path], limit: int) -> None:
        self._scheduler = scheduler
        self._roots = tuple(roots)
        self._limit = limit

    def listing(self, user: str, path: str) -> list[Document]:
        """As ``ls -la``: a file is one entry with its whole path as its name. Raises: FilesError."""
        self._permit(user, path, "ls: cannot access")
        command = ["ls", "-lab", "--time-style=+%Y-%m-%dT%H:%M:%S", "--", path]
        lines = self._done(user, command).stdout.decode(errors="replace").splitlines()
        return [_entry(line) for line in lines if not line.startswith("total ")]

    def content(self, user: str, path: str) -> bytes:
        """Raises: FilesError, also where the file is larger than may be downloaded."""
        self._permit(user, path, "head: cannot open")
        found = self._done(user, ["head", "-c", str(self._limit + 1), "--", path]).stdout
        if len(found) > self._limit:
            raise FilesError(f"{path} is too large to download: more than {self._limit} bytes")
        return found

    def write(self, user: str, path: str, content: bytes) -> None:
        """Raises: FilesError."""
        self._permit(user, path, "dd: failed to open")
        self._done(user, ["dd", "status=none", f"of={path}"], stdin=content)

    def copy(self, user: str, source: str, target: str) -> None:
        """A file or directory, into the directory `target` if there is one. Raises: FilesError."""
        for path in (source, target):
            self._permit(user, path, "cp: cannot access")
        self._done(user, ["cp", "-r", "--", source, target])

    def size(self, user: str, path: str) -> int:
        """Of a file, or of all in a directory, in bytes. Raises: FilesError."""
        return int(self._done(user, ["du", "-sb", "--", path]).stdout.split()[0])

    def _done(self, user: str, command: Sequence[str], *, stdin: bytes = b"") -> Output:
        output = self._scheduler.run(user, command, stdin=stdin)
        if output.code:
            raise FilesError(output.error)
        return output

    def _permit(self, user: str, path: str, words: str) -> None:
        """Raises: FilesError for what lies outside the facility's own directories."""
        if "\0" in path:
            raise FilesError(f"{words} '{path}': Invalid argument\n")
        real = self._scheduler.resolve(user, path)
        roots = (self._scheduler.person(user).home, *self._roots)
        if not any(real.is_relative_to(root) for root in roots):
            raise FilesError(f"{words} '{path}': Permission denied\n")


def absolute(path: str) -> str:
    """The path of a request; clients send one slash too many."""
    return str(PurePosixPath("/" + path.lstrip("/")))


def _entry(line: str) -> Document:
    perms, hardlinks, user, group, size, *rest = line.split(None, 5)
    words = rest[0]
    if size.endswith(","):  # a device has two numbers instead of a size
        size, words = "0", words.split(None, 1)[1]
    date, name = words.split(" ", 1)
    return {
        "perms": perms,
        "hardlinks": int(hardlinks),
        "user": user,
        "group": group,
        "size": float(size),
        "date": date,
        "name": _ESCAPED.sub(_unescaped, name),
    }


def _unescaped(found: re.Match[str]) -> str:
    word = found[1]
    return chr(int(word, 8)) if len(word) == 3 else _NAMED.get(word, word)
