"""The list of all files that a reader of a result gets, by which the portal and the flows know that they have them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestration.science.running.outputs import sha256
from orchestration.science.xpcs.documents import Document, Json
from orchestration.science.xpcs.naming import Names


@dataclass(frozen=True, kw_only=True, order=True)
class Listed:
    """One file; `name` is its path from the folder of the result where it lies in that, `size` is in bytes."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path, *, folder: Path) -> Listed:
        return cls(name=_name(path, folder), size=path.stat().st_size, sha256=sha256(path))


def files(result: Path, written: Iterable[Path] = ()) -> list[Json]:
    """The result, its receipt if there is one beside it, and what was written for it, in the order of names.

    Raises:
        OSError: if one of them cannot be read.
    """
    receipt = Names.receipt(result)
    every = [result, *([receipt] if receipt.is_file() else []), *written]
    return [asdict(each) for each in sorted(Listed.of(path, folder=result.parent) for path in every)]


def document(found: list[Json]) -> Document:
    return {"version": 1, "files": found}


def _name(path: Path, folder: Path) -> str:
    # Not resolved: where a link leads is no business of those who read beside the result.
    absolute, above = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    inside = absolute.is_relative_to(above)
    return absolute.relative_to(above).as_posix() if inside else f"{absolute.parent.name}/{absolute.name}"
