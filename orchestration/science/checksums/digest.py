"""One checksum over a file or over all files of a folder, read from the disk once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestration.science.errors import ParametersInvalid
from orchestration.science.stopping import look

ALGORITHMS = ("md5", "sha1", "sha256", "sha512")

_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Digest:
    """`value` is the checksum of a file, or the SHA-256 of a folder's sorted lines "checksum size name"."""

    algorithm: str
    files: int
    size: int
    value: str


def digest(path: Path, *, algorithm: str = "sha256", links: bool = True, threads: int = 4) -> Digest:
    """Of what stands at `path`; symbolic links in a folder are left out without `links`.

    Raises:
        ParametersInvalid: if there is nothing, or something that is neither a file nor a folder.
        OSError: if it cannot be read.
    """
    if path.is_file():
        value, size = file_checksum(path, algorithm)
        return Digest(algorithm=algorithm, files=1, size=size, value=value)
    if not path.is_dir():
        raise ParametersInvalid("there is no file or folder to compute checksums of", where=str(path))
    files = sorted(_files(path, links=links))
    with ThreadPoolExecutor(threads) as pool:
        sums = list(pool.map(lambda name: file_checksum(path / name, algorithm), files))
    lines = sorted(f"{value} {size} {name}" for name, (value, size) in zip(files, sums, strict=True))
    total = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    return Digest(algorithm=algorithm, files=len(files), size=sum(size for _, size in sums), value=total)


def _files(top: Path, *, links: bool) -> Iterator[str]:
    """Names below `top`. A link to a folder is followed once: one that leads back up is not gone through again."""
    pending, seen = [""], set[tuple[int, int]]()
    while pending:
        look()
        below = pending.pop()
        facts = os.stat(top / below)
        if (facts.st_dev, facts.st_ino) in seen:
            raise ParametersInvalid("a link leads in a circle", where=str(top / below))
        seen.add((facts.st_dev, facts.st_ino))
        with os.scandir(top / below) as entries:
            for entry in entries:
                name = f"{below}{entry.name}"
                if entry.is_symlink() and not links:
                    continue
                if entry.is_dir():
                    pending.append(f"{name}/")
                elif entry.is_file():
                    yield name
                else:
                    raise ParametersInvalid("this is neither a file nor a folder", where=str(top / name))


def file_checksum(path: Path, algorithm: str = "sha256") -> tuple[str, int]:
    """Of the content of a file, and its size."""
    hasher, size = hashlib.new(algorithm, usedforsecurity=False), 0
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            look()
            hasher.update(chunk)
            size += len(chunk)
    return hasher.hexdigest(), size
