"""Are the declared outputs of a job there, and are they what they should be? Standard library only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from orchestration.jobs import Output, OutputKind
from orchestration.local.records import CheckedOutput

HASH_LIMIT = 64 * 1024**3
"""Bytes of one output above which only sizes are recorded: a minute of hashing or two."""


def check(directory: Path, declared: Output) -> CheckedOutput:
    """Look at one output of a job that ran in `directory`."""
    path = directory / declared.path
    plain = CheckedOutput(path=str(path), kind=declared.kind.value)
    try:
        if declared.kind is OutputKind.DIRECTORY:
            return _directory(plain, path, declared)
        if declared.kind is OutputKind.JSON:
            _parse(path)
        return _file(plain, path)
    except FileNotFoundError:
        return replace(plain, problem=f"{path} was not written")
    except (OSError, ValueError) as error:
        return replace(plain, problem=str(error))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(plain: CheckedOutput, path: Path) -> CheckedOutput:
    if not path.is_file():
        raise FileNotFoundError(path)
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty")
    return replace(plain, size=size, sha256=sha256(path) if size <= HASH_LIMIT else "")


def _directory(plain: CheckedOutput, path: Path, declared: Output) -> CheckedOutput:
    if not path.is_dir():
        raise FileNotFoundError(path)
    sizes = {file: file.stat().st_size for file in path.glob(declared.pattern) if file.is_file()}
    whole = sum(size > 0 for size in sizes.values())
    if whole < declared.at_least:
        wanted = f"{declared.at_least} or more files {declared.pattern!r} that are not empty"
        raise ValueError(f"{path} should have {wanted}, and has {whole}")
    total = sum(sizes.values())
    checksum = _digest(path, sizes) if total <= HASH_LIMIT else ""
    return replace(plain, size=total, files=len(sizes), sha256=checksum)


def _digest(root: Path, sizes: dict[Path, int]) -> str:
    lines = sorted(f"{sha256(file)} {size} {file.relative_to(root)}" for file, size in sizes.items())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _parse(path: Path) -> None:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
