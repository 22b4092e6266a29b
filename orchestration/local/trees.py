"""What there is to copy at a path: each file below it, as it was when it was looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestration.errors import EndpointRefused, InvalidPath, SourceMissing
from orchestration.local.errors import reading
from orchestration.paths import check_name


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
    def shape(self) -> tuple[object, ...]:
        """What must not change while it is copied."""
        return self.is_directory, self.directories, self.files

    def path(self, file: Found) -> str:
        return f"{self.top}/{file.name}" if file.name else str(self.top)


def look(path: Path, *, root: Path) -> Tree:
    """Everything at `path`; links are followed as long as they stay below `root`.

    Raises:
        SourceMissing, AccessDenied: as the operating system says.
        InvalidPath: a link leads outside `root` or in a circle, or a name cannot be carried.
        EndpointRefused: something is neither file nor directory.
    """
    with reading(path):
        facts = path.stat()
    if stat.S_ISREG(facts.st_mode):
        return Tree(top=path, is_directory=False, files=(_found("", facts),))
    if not stat.S_ISDIR(facts.st_mode):
        raise _neither(path)
    files: list[Found] = []
    directories: list[str] = []
    for name, kind in _walk(path, root=root.resolve()):
        if stat.S_ISDIR(kind.st_mode):
            directories.append(name)
        else:
            files.append(_found(name, kind))
    files.sort()
    return Tree(top=path, is_directory=True, files=tuple(files), directories=tuple(sorted(directories)))


def _walk(top: Path, *, root: Path) -> Iterator[tuple[str, os.stat_result]]:
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
