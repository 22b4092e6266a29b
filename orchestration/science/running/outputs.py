"""Are the declared outputs of a job there, and are they what they should be? Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

HASH_LIMIT = 64 * 1024**3
"""Bytes of one output above which only sizes are recorded: a minute of hashing or two."""

CONTENT_LIMIT = 64 * 1024
"""Bytes of a JSON output up to which its content is part of what is reported: so it arrives before any transfer."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """`kind` is ``file`` (not empty), ``json`` (parses), or ``directory``.

    A directory needs at least `at_least` files below it that match `pattern` and are not empty.
    """

    path: str
    kind: str = "file"
    pattern: str = "**/*"
    at_least: int = 1

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Declared:
        return cls(**document)


@dataclass(frozen=True, kw_only=True)
class CheckedOutput:
    """One declared output; `problem` is empty if it is as declared. `size` is in bytes, `files` counts a directory's.

    A directory's `sha256` is that of its sorted lines "sha256 size name", so that it can be recomputed anywhere.
    `content` is that of a small JSON file.
    """

    path: str
    kind: str
    problem: str = ""
    size: int = 0
    files: int = 1
    sha256: str = ""
    content: Any = None

    def document(self) -> dict[str, Any]:
        found = asdict(self)
        return found if self.content is not None else {key: found[key] for key in found if key != "content"}


Found: TypeAlias = "dict[Path, tuple[int, int, int]]"
"""The files of one output, with what changes when they are written: inode, time in nanoseconds, size in bytes."""


def found(directory: Path, declared: Declared) -> Found:
    """What is there of an output before the job begins: the work of an earlier one is not that of this one."""
    path = directory / declared.path
    files = _matching(path, declared) if declared.kind == "directory" else iter([path])
    return {file: mark for file in files if (mark := _mark(file)) is not None}


def check(directory: Path, declared: Declared, before: Found) -> CheckedOutput:
    """Look at one output of a job that ran in `directory`, of which `before` was there when it began."""
    path = directory / declared.path
    plain = CheckedOutput(path=str(path), kind=declared.kind)
    try:
        if declared.kind == "directory":
            return _directory(plain, path, declared, before)
        checked = _file(plain, path, before)
        return replace(checked, content=_parsed(path)) if declared.kind == "json" else checked
    except FileNotFoundError:
        return replace(plain, problem=f"{path} was not written")
    except (OSError, ValueError) as error:
        return replace(plain, problem=str(error))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _file(plain: CheckedOutput, path: Path, before: Found) -> CheckedOutput:
    if not path.is_file():
        raise FileNotFoundError(path)
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty")
    if _mark(path) == before.get(path):
        raise ValueError(f"{path} was not written by this job: it is as it was before")
    return replace(plain, size=size, sha256=sha256(path) if size <= HASH_LIMIT else "")


def _matching(path: Path, declared: Declared) -> Iterator[Path]:
    return (file for file in path.glob(declared.pattern) if file.is_file())


def _directory(plain: CheckedOutput, path: Path, declared: Declared, before: Found) -> CheckedOutput:
    if not path.is_dir():
        raise FileNotFoundError(path)
    sizes = {file: file.stat().st_size for file in _matching(path, declared)}
    whole = [file for file, size in sizes.items() if size > 0]
    old = sum(_mark(file) == before.get(file) for file in whole)
    if len(whole) - old < declared.at_least:
        wanted = f"{declared.at_least} or more files {declared.pattern!r} that are not empty"
        others = f", besides {old} that this job did not write" if old else ""
        raise ValueError(f"{path} should have {wanted}, and has {len(whole) - old}{others}")
    total = sum(sizes.values())
    checksum = _digest(path, sizes) if total <= HASH_LIMIT else ""
    return replace(plain, size=total, files=len(sizes), sha256=checksum)


def _digest(root: Path, sizes: dict[Path, int]) -> str:
    lines = sorted(f"{sha256(file)} {size} {file.relative_to(root)}" for file, size in sizes.items())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _parsed(path: Path) -> Any:
    """The content; None of one that is too long to be reported."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    return found if path.stat().st_size <= CONTENT_LIMIT else None
