"""Files of the facility's disks: what is there, and what is in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from orchestration.hpss.bundles import Member
from orchestration.hpss.errors import MemberChanged
from orchestration.hpss.names import printable

_CHUNK = 4 * 1024 * 1024


def found(source: str, project: str) -> tuple[list[Member], list[str]]:
    """The files below ``source/project``, or that file; and the names of what is neither a file nor a folder.

    Symbolic links are not followed.
    """
    base = os.path.join(source, project)
    mode = os.lstat(base).st_mode if os.path.lexists(base) else None
    if mode is None:
        raise MemberChanged("there is nothing to archive", where=base, next_step="check the path, then start again")
    if not stat.S_ISDIR(mode):
        return ([member(source, project)], []) if stat.S_ISREG(mode) else ([], [project])
    files: list[Member] = []
    others: list[str] = []
    for folder, folders, names in os.walk(base, onerror=_raise):
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(folder, each)))]:
            path = os.path.relpath(os.path.join(folder, name), source)
            if stat.S_ISREG(os.lstat(os.path.join(source, path)).st_mode):
                files.append(member(source, path))
            else:
                others.append(path)
    return files, sorted(others)


def member(source: str, name: str) -> Member:
    """As it is now."""
    try:
        known = os.lstat(os.path.join(source, name))
    except FileNotFoundError as error:
        raise MemberChanged(f"{printable(name)} is not there any more", where=source) from error
    return Member(name, known.st_size, known.st_mtime_ns)


def checksum(source: str, planned: Member) -> str:
    """The SHA-256 of a file that is as it was planned, before and after it was read.

    Raises:
        MemberChanged: if it is not.
    """
    if member(source, planned.name) != planned:
        raise _changed(source, planned)
    with open(os.path.join(source, planned.name), "rb") as file:
        found = sha256(file)[0]
    if member(source, planned.name) != planned:
        raise _changed(source, planned)
    return found


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def sha256(file: Readable) -> tuple[str, int]:
    """Of all that can be read, with its bytes."""
    hasher, size = hashlib.sha256(), 0
    for chunk in _chunks(file):
        hasher.update(chunk)
        size += len(chunk)
    return hasher.hexdigest(), size


def sha256_of(path: str) -> str:
    with open(path, "rb") as file:
        return sha256(file)[0]


def write(path: Path, content: bytes) -> None:
    """In one step, and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, document: Any) -> None:
    write(path, json.dumps(document, ensure_ascii=True).encode("ascii"))


@contextlib.contextmanager
def plain(source: str, name: str, folder: Path) -> Iterator[Path]:
    """A file by a path that hsi cannot misread; `hsi put` reads through links."""
    link = folder / "member"
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.join(source, name))
    yield link
    link.unlink()


def _chunks(file: Readable) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _changed(source: str, planned: Member) -> MemberChanged:
    return MemberChanged(f"{printable(planned.name)} was written to since it was planned", where=source)


def _raise(error: OSError) -> None:
    raise error
