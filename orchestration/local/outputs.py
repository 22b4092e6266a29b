"""Are the declared outputs of a job there, and are they what they should be? Standard library only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

HASH_LIMIT = 64 * 1024**3
"""Bytes of one output above which only sizes are recorded: some 45 s of hashing."""


def check(directory: Path, declared: dict[str, Any]) -> dict[str, Any]:
    """One line of evidence for one declared output; ``problem`` is empty if it is as declared.

    A directory's ``sha256`` is that of its sorted lines "sha256 size name", so that it can be recomputed anywhere.
    """
    path = directory / str(declared["path"])
    found: dict[str, Any] = {"path": str(path), "kind": declared["kind"]}
    try:
        match declared["kind"]:
            case "directory":
                found |= _directory(path, pattern=str(declared["pattern"]), at_least=int(declared["at_least"]))
            case "json":
                found |= _file(path)
                _parse(path)
            case _:
                found |= _file(path)
    except (OSError, ValueError) as error:
        return found | {"problem": _explain(error, path)}
    return {"problem": ""} | found


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(path)
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty")
    return {"size": size, "sha256": sha256(path) if size <= HASH_LIMIT else ""}


def _directory(path: Path, *, pattern: str, at_least: int) -> dict[str, Any]:
    if not path.is_dir():
        raise FileNotFoundError(path)
    files = sorted(file for file in path.glob(pattern) if file.is_file())
    sizes = {file: file.stat().st_size for file in files}
    whole = [file for file in files if sizes[file] > 0]
    if len(whole) < at_least:
        raise ValueError(f"{path} has {len(whole)} files {pattern!r} that are not empty, not {at_least} or more")
    total = sum(sizes.values())
    return {"files": len(files), "size": total, "sha256": _digest(path, sizes) if total <= HASH_LIMIT else ""}


def _digest(root: Path, sizes: dict[Path, int]) -> str:
    lines = sorted(f"{sha256(file)} {size} {file.relative_to(root)}" for file, size in sizes.items())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _parse(path: Path) -> None:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _explain(error: OSError | ValueError, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} was not written"
    return str(error)
