"""What there is to copy at a path: each file below it, as it was when it was looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from orchestration.errors import EndpointRefused, InvalidPath, SourceMissing
from orchestration.local.errors import reading
from orchestration.paths import check_name


class Shape(NamedTuple):
    """Equal for equal trees within one process, and small however many files there are."""

    is_directory: bool
    entries: int
    digest: int


class Found(NamedTuple):
    """One file to copy: its name below the item, and its state when it was looked at. There may be very many."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What there is at a path: one file (named ""), or a directory with its files and sub-directories, sorted."""

    top: Path
    is_directory: bool
    files: tuple[Found, ...]
    directories: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def shape(self) -> Shape:
        """What must not change while it is copied."""
        return _shape(chain(self.files, self.directories), is_directory=self.is_directory)

    def path(self, file: Found) -> str:
        return f"{self.top}/{file.name}" if file.name else str(self.top)


def shape_of(path: Path, *, root: Path) -> Shape:
    """That of the tree that is there now, which is not kept. Raises what `look` does."""
    facts = _facts(path)
    if stat.S_ISREG(facts.st_mode):
        return _shape([_found("", facts)], is_directory=False)
    found = ((name if stat.S_ISDIR(kind.st_mode) else _found(name, kind)) for name, kind in _walk(path, root=root))
    return _shape(found, is_directory=True)


def _shape(entries: Iterable[Found | str], *, is_directory: bool) -> Shape:
    """Whatever the order: a sum over all entries, each of which is there once."""
    number = digest = 0
    for entry in entries:
        number += 1
        digest += hash(entry)
    return Shape(is_directory, number, digest)


def look(path: Path, *, root: Path) -> Tree:
    """Everything at `path`; links are followed as long as they stay below `root`.

    Raises:
        SourceMissing, AccessDenied: as the operating system says.
        InvalidPath: a link leads outside `root` or in a circle, or a name cannot be carried.
        EndpointRefused: something is neither file nor directory.
    """
    facts = _facts(path)
    if stat.S_ISREG(facts.st_mode):
        return Tree(top=path, is_directory=False, files=(_found("", facts),))
    files: list[Found] = []
    directories: list[str] = []
    for name, kind in _walk(path, root=root):
        if stat.S_ISDIR(kind.st_mode):
            directories.append(name)
        else:
            files.append(_found(name, kind))
    files.sort()
    return Tree(top=path, is_directory=True, files=tuple(files), directories=tuple(sorted(directories)))


def _facts(path: Path) -> os.stat_result:
    """Of a file or a directory."""
    with reading(path):
        facts = path.stat()
    if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
        raise _neither(path)
    return facts


def _walk(top: Path, *, root: Path) -> Iterator[tuple[str, os.stat_result]]:
    root = root.resolve()
    pending: list[tuple[Path, str, tuple[Path, ...]]] = [(top, "", (top.resolve(),))]
    while pending:
        folder, prefix, above = pending.pop()
        with reading(folder):
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            check_name(entry.name, of=f"{prefix}{entry.name}")
            real = _real(Path(entry.path), root) if entry.is_symlink() else None
            with reading(entry.path):
                facts = entry.stat()
            if stat.S_ISDIR(facts.st_mode):
                path = Path(entry.path)
                inside = real or path.resolve()
                if real and any(higher.is_relative_to(real) for higher in above):
                    raise InvalidPath(f"the link {path} leads in a circle", where="this machine")
                pending.append((path, f"{prefix}{entry.name}/", (*above, inside)))
            elif not stat.S_ISREG(facts.st_mode):
                raise _neither(entry.path)
            yield f"{prefix}{entry.name}", facts


def _real(link: Path, root: Path) -> Path:
    try:
        real = link.resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidPath(f"the link {link} leads in a circle", where="this machine") from error
    if not real.is_relative_to(root):
        raise InvalidPath(f"the link {link} leads outside {root}", where="this machine")
    if not real.exists():
        raise SourceMissing(f"the link {link} leads nowhere", where="this machine")
    return real


def _neither(path: Path | str) -> EndpointRefused:
    return EndpointRefused(f"{path} is neither a file nor a directory", where="this machine")


def _found(name: str, facts: os.stat_result) -> Found:
    return Found(name, facts.st_size, facts.st_mtime_ns)
