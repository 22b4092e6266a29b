"""Copies of files and trees that are whole and verified, or not there at all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestration.errors import ChecksumMismatch, EndpointRefused, InvalidPath, NoSpace, SourceChanged, SourceMissing
from orchestration.local.errors import reading, writing
from orchestration.local.jobfolder import fsync_directory
from orchestration.local.renaming import exchange
from orchestration.local.syncing import sync_all
from orchestration.local.work import Meter
from orchestration.paths import RelativePath

CHUNK = 4 * 1024 * 1024
_THREADS = 4
"""Files of a tree in flight: enough to hide the latency of making each durable."""

BATCH_FILES = 4096
BATCH_BYTES = 256 * 1024 * 1024
"""So much is written before it is made durable, and read back."""

_STALE_SECONDS = 24 * 3600.0
_TEMPORARY = re.compile(r"\.orc-[0-9a-f]{16}-[0-9a-f]{8}\.part")


@dataclass(frozen=True, kw_only=True)
class Found:
    """One file to copy: where it is, its name below the item, and its state when it was looked at."""

    path: Path
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What there is at a path: one file (named ""), or a directory with its files and sub-directories, sorted."""

    is_directory: bool
    files: tuple[Found, ...]
    directories: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def shape(self) -> tuple[object, ...]:
        """What must not change while it is copied."""
        return self.is_directory, self.directories, [(file.name, file.size, file.mtime_ns) for file in self.files]


@dataclass(frozen=True, kw_only=True)
class CopiedFile:
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Copied:
    """`skipped`: the destination had the same bytes already, and was left alone."""

    files: tuple[CopiedFile, ...]
    skipped: bool

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        """Of the file, or of a directory's sorted lines "sha256 size name"."""
        if len(self.files) == 1 and not self.files[0].name:
            return self.files[0].sha256
        lines = sorted(f"{file.sha256} {file.size} {file.name}" for file in self.files)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


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
        return Tree(is_directory=False, files=(_found(path, "", facts),))
    if not stat.S_ISDIR(facts.st_mode):
        raise EndpointRefused(f"{path} is neither a file nor a directory", where="this machine")
    files: list[Found] = []
    directories: list[str] = []
    for entry, name, kind in _walk(path, root=root.resolve()):
        if stat.S_ISDIR(kind.st_mode):
            directories.append(name)
        else:
            files.append(_found(entry, name, kind))
    files.sort(key=lambda file: file.name)
    return Tree(is_directory=True, files=tuple(files), directories=tuple(sorted(directories)))


def _walk(top: Path, *, root: Path) -> Iterator[tuple[Path, str, os.stat_result]]:
    pending: list[tuple[Path, str, tuple[Path, ...]]] = [(top, "", (top.resolve(),))]
    while pending:
        folder, prefix, above = pending.pop()
        with reading(folder):
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            name = RelativePath(f"{prefix}{entry.name}").text
            path = Path(entry.path)
            real = _real(path, root) if entry.is_symlink() else None
            with reading(path):
                facts = entry.stat()
            if stat.S_ISDIR(facts.st_mode):
                inside = real or path.resolve()
                if real and any(higher.is_relative_to(real) for higher in above):
                    raise InvalidPath(f"the link {path} leads in a circle", where="this machine")
                pending.append((path, f"{name}/", (*above, inside)))
            elif not stat.S_ISREG(facts.st_mode):
                raise EndpointRefused(f"{path} is neither a file nor a directory", where="this machine")
            yield path, name, facts


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


def _found(path: Path, name: str, facts: os.stat_result) -> Found:
    return Found(path=path, name=name, size=facts.st_size, mtime_ns=facts.st_mtime_ns)


@dataclass(frozen=True, kw_only=True)
class Copier:
    """Copies for one piece of work; `owner` marks its temporary names, to clean up after a dead attempt."""

    owner: str
    meter: Meter

    def copy(self, source: Path, destination: Path, *, root: Path, there: Path) -> Copied:
        """Make `destination` (below `there`) equal to `source` (below `root`).

        A directory that stands there is replaced as a whole by one step, never merged: no slice of an older result
        is left among those of a newer one.
        """
        tree = look(source, root=root)
        self.meter.expect(files=len(tree.files), size=tree.size)
        self._prepare(source, destination, tree)
        same = self._same(tree, destination, there)
        if same is not None:
            return Copied(files=same, skipped=True)
        self._check_space(destination.parent, tree)
        with self._temporary(destination.parent) as temporary:
            files = self._fill(tree, temporary)
            if look(source, root=root).shape != tree.shape:
                raise SourceChanged(f"{source} changed while it was copied", where="this machine")
            self.meter.check()
            with writing(destination):
                _place(temporary, destination)
        return Copied(files=files, skipped=False)

    def _prepare(self, source: Path, destination: Path, tree: Tree) -> None:
        if destination.is_relative_to(source) or (destination.exists() and destination.samefile(source)):
            raise EndpointRefused(f"{source} cannot be copied into itself", where="this machine")
        if destination.exists() and destination.is_dir() != tree.is_directory:
            kinds = ("directory", "file") if tree.is_directory else ("file", "directory")
            raise EndpointRefused(f"{source} is a {kinds[0]}, {destination} a {kinds[1]}", where="this machine")
        with writing(destination):
            destination.parent.mkdir(parents=True, exist_ok=True)
            self._clean(destination.parent)

    def _clean(self, folder: Path) -> None:
        """Remove what dead attempts left: our own, and any that nobody has touched for a day."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if _TEMPORARY.fullmatch(entry.name) is None:
                    continue
                ours = entry.name.startswith(f".orc-{self.owner}-")
                if ours or _age(entry) > _STALE_SECONDS:
                    remove(Path(entry.path))

    def _same(self, tree: Tree, destination: Path, there: Path) -> tuple[CopiedFile, ...] | None:
        """The files, if the destination has exactly them, byte for byte; sizes are compared before bytes."""
        if not destination.exists():
            return None
        try:
            other = look(destination, root=there)
        except (InvalidPath, SourceMissing, EndpointRefused):
            return None  # whatever it is, it is not what we would have put there
        sizes = [[(file.name, file.size) for file in each.files] for each in (tree, other)]
        if sizes[0] != sizes[1] or tree.directories != other.directories:
            return None
        self.meter.say("comparing with what is there")
        files = []
        for ours, theirs in zip(tree.files, other.files, strict=True):
            checksum = self._sha256(ours.path)
            if checksum != self._sha256(theirs.path):
                return None
            files.append(CopiedFile(name=ours.name, size=ours.size, sha256=checksum))
        self.meter.add(size=tree.size, files=len(tree.files))
        return tuple(files)

    def _check_space(self, folder: Path, tree: Tree) -> None:
        free = shutil.disk_usage(folder).free
        if free < tree.size:
            raise NoSpace(f"{folder} has {free:,} bytes free, {tree.size:,} are needed", where="this machine")

    @contextmanager
    def _temporary(self, folder: Path) -> Iterator[Path]:
        """A short name in the same folder: also a file whose own name is as long as can be has one."""
        path = folder / f".orc-{self.owner}-{secrets.token_hex(4)}.part"
        try:
            yield path
        finally:
            remove(path)

    def _fill(self, tree: Tree, temporary: Path) -> tuple[CopiedFile, ...]:
        self.meter.say("copying")
        if not tree.is_directory:
            return (self._copy_file(tree.files[0], temporary),)
        with writing(temporary):
            for folder in ("", *tree.directories):
                (temporary / folder).mkdir()
        files = self._copy_files(tree, temporary)
        with writing(temporary):
            for folder in ("", *tree.directories):
                fsync_directory(temporary / folder)
        return files

    def _copy_files(self, tree: Tree, temporary: Path) -> tuple[CopiedFile, ...]:
        """So many at a time: each file is written, all are made durable together, and then each is read back."""
        copied: list[CopiedFile] = []
        pool = ThreadPoolExecutor(_THREADS)
        try:
            for batch in _batches(tree.files):
                targets = [temporary / file.name for file in batch]
                sums = list(pool.map(self._stream, batch, targets))
                with writing(temporary):
                    sync_all(targets, folder=temporary)
                copied += pool.map(self._checked, batch, targets, sums)
        finally:
            pool.shutdown(cancel_futures=True)
        return tuple(copied)

    def _copy_file(self, file: Found, target: Path) -> CopiedFile:
        checksum = self._stream(file, target)
        with writing(target):
            sync_all([target], folder=target.parent)
        return self._checked(file, target, checksum)

    def _checked(self, file: Found, target: Path, checksum: str) -> CopiedFile:
        """What the disk has is what was read; the file counts as copied."""
        if self._sha256(target, forget=True) != checksum:
            raise ChecksumMismatch(
                f"{target.parent} does not hold what was written of {file.path}", where="this machine"
            )
        self.meter.add(files=1)
        return CopiedFile(name=file.name, size=file.size, sha256=checksum)

    def _stream(self, file: Found, target: Path) -> str:
        """Copy the bytes; returns the SHA-256 of what was read. They may not be on the disk yet."""
        hasher, size = hashlib.sha256(), 0
        with reading(file.path):
            source = open(file.path, "rb", buffering=0)  # noqa: SIM115 - closed below
        with source, writing(target), open(target, "xb", buffering=0) as sink:
            while size < file.size and (chunk := self._read(source.fileno(), file.path)):
                hasher.update(chunk)
                _write(sink.fileno(), chunk)
                size += len(chunk)
                self.meter.add(size=len(chunk))
            after = os.fstat(source.fileno())
        if (size, after.st_size, after.st_mtime_ns) != (file.size, file.size, file.mtime_ns):
            raise SourceChanged(f"{file.path} changed while it was copied", where="this machine")
        return hasher.hexdigest()

    def _sha256(self, path: Path, *, forget: bool = False) -> str:
        hasher = hashlib.sha256()
        with reading(path):
            source = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
        with source:
            if forget:
                forget_cached(source.fileno())
            left = os.fstat(source.fileno()).st_size
            while chunk := self._read(source.fileno(), path):
                hasher.update(chunk)
                left -= len(chunk)
                if left == 0:
                    break
        return hasher.hexdigest()

    def _read(self, descriptor: int, path: Path) -> bytes:
        self.meter.check()
        with reading(path):
            return os.read(descriptor, CHUNK)


def _batches(files: Sequence[Found]) -> Iterator[Sequence[Found]]:
    """No longer than what a cache holds easily, or what one wants to lose when it is cancelled."""
    start = size = 0
    for place, file in enumerate(files):
        if place > start and (size + file.size > BATCH_BYTES or place - start == BATCH_FILES):
            yield files[start:place]
            start, size = place, 0
        size += file.size
    if files:
        yield files[start:]


def _age(entry: os.DirEntry[str]) -> float:
    """Seconds since it was touched; 0 if it is gone by now, as what others copy beside us gets its name any moment."""
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def forget_cached(descriptor: int) -> None:
    """So that the check reads what the disk has, where the system lets us ask for that."""
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def remove(path: Path) -> None:
    """Remove a file or a whole directory, if there is one."""
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _place(temporary: Path, destination: Path) -> None:
    """Put the copy under its name; an older directory ends up under the temporary one, to be removed."""
    if temporary.is_dir() and destination.exists():
        exchange(temporary, destination)
    else:
        temporary.replace(destination)
    fsync_directory(destination.parent)
