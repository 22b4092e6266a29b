"""Copies of files and trees that are whole and verified, or not there at all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from orchestration.errors import ChecksumMismatch, EndpointRefused, InvalidPath, NoSpace, SourceChanged, SourceMissing
from orchestration.local.errors import reading, writing
from orchestration.local.jobfolder import fsync_directory
from orchestration.local.renaming import exchange
from orchestration.local.syncing import sync_file_system
from orchestration.local.trees import Found, Tree, look
from orchestration.local.work import Meter

T = TypeVar("T")

CHUNK = 4 * 1024 * 1024

_THREADS = 4
"""Batches of files in flight: enough to hide the latency of making each durable."""

_SMALL = 256 * 1024
"""Bytes of a file that is read at once, and made durable together with others."""
_BATCH_FILES = 1000
_BATCH_BYTES = 64 * 1024 * 1024
_FEW = 32
"""So many files, or folders, are made durable one by one: the others of their file system need not be waited for."""

_STALE_SECONDS = 24 * 3600.0
_TEMPORARY = re.compile(r"\.orc-[0-9a-f]{16}-[0-9a-f]{8}\.part")


class CopiedFile(NamedTuple):
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
                raise _changed(source)
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
        files: list[CopiedFile] = []
        for some in self._each_batch(lambda batch: self._alike(tree, other, batch), tree.files):
            if some is None:
                return None
            files += some
        self.meter.add(size=tree.size, files=len(tree.files))
        return tuple(files)

    def _alike(self, tree: Tree, other: Tree, batch: Sequence[Found]) -> Sequence[CopiedFile] | None:
        found = []
        for file in batch:
            checksum = self._sha256(tree.path(file))
            if checksum != self._sha256(other.path(file)):
                return None
            found.append(CopiedFile(file.name, file.size, checksum))
        return found

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
            return (self._copy_file(tree.path(tree.files[0]), tree.files[0], temporary),)
        with writing(temporary):
            for folder in ("", *tree.directories):
                (temporary / folder).mkdir()
        batches = self._each_batch(lambda batch: self._copy_batch(tree, batch, temporary), tree.files)
        files = tuple(chain.from_iterable(batches))
        with writing(temporary):
            _keep_folders([temporary / folder for folder in ("", *tree.directories)])
        return files

    def _each_batch(self, do: Callable[[Sequence[Found]], T], files: Sequence[Found]) -> Iterator[T]:
        """What `do` returns for the files, some at a time, in order; the first exception ends it."""
        pool = ThreadPoolExecutor(_THREADS)
        try:
            yield from pool.map(do, _batches(files))
        finally:
            pool.shutdown(cancel_futures=True)

    def _copy_batch(self, tree: Tree, batch: Sequence[Found], temporary: Path) -> Sequence[CopiedFile]:
        if batch[0].size > _SMALL:
            return [self._copy_file(tree.path(file), file, temporary / file.name) for file in batch]
        with writing(temporary):
            # Opened before anything is written: it is told of what could not be.
            folder = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sums = [self._write_small(tree.path(file), file, f"{temporary}/{file.name}") for file in batch]
            with writing(temporary):
                durable = len(batch) > _FEW and sync_file_system(folder)
        finally:
            os.close(folder)
        for file, checksum in zip(batch, sums, strict=True):
            self._verify_small(f"{temporary}/{file.name}", file, checksum, durable=durable)
        return [CopiedFile(file.name, file.size, checksum) for file, checksum in zip(batch, sums, strict=True)]

    def _write_small(self, source: str, file: Found, target: str) -> str:
        """Copy the bytes, not durably yet; returns the SHA-256 of what was read."""
        self.meter.check()
        with reading(source):
            descriptor = os.open(source, os.O_RDONLY)
            try:
                content = _read_at_once(descriptor, file.size)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        if (len(content), after.st_size, after.st_mtime_ns) != (file.size, file.size, file.mtime_ns):
            raise _changed(source)
        with writing(target):
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                _write(descriptor, content)
            finally:
                os.close(descriptor)
        self.meter.add(size=file.size)
        return hashlib.sha256(content).hexdigest()

    def _verify_small(self, target: str, file: Found, checksum: str, *, durable: bool) -> None:
        self.meter.check()
        with writing(target):
            descriptor = os.open(target, os.O_RDWR)
            try:
                if not durable:
                    os.fsync(descriptor)
                forget_cached(descriptor)
                content = _read_at_once(descriptor, file.size)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        if size != file.size or hashlib.sha256(content).hexdigest() != checksum:
            raise _spoilt(target)
        self.meter.add(files=1)

    def _copy_file(self, source: str, file: Found, target: Path) -> CopiedFile:
        checksum = self._stream(source, file, target)
        if self._sha256(str(target)) != checksum:
            raise _spoilt(str(target))
        self.meter.add(files=1)
        return CopiedFile(file.name, file.size, checksum)

    def _stream(self, path: str, file: Found, target: Path) -> str:
        """Copy the bytes and make them durable; returns the SHA-256 of what was read."""
        hasher = hashlib.sha256()
        with reading(path):
            source = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
        with source, writing(target), target.open("xb", buffering=0) as sink:
            while chunk := self._read(source.fileno(), path):
                hasher.update(chunk)
                _write(sink.fileno(), chunk)
                self.meter.add(size=len(chunk))
            os.fsync(sink.fileno())
            forget_cached(sink.fileno())
            after = os.fstat(source.fileno())
        if (after.st_size, after.st_mtime_ns) != (file.size, file.mtime_ns):
            raise _changed(path)
        return hasher.hexdigest()

    def _sha256(self, path: str) -> str:
        hasher = hashlib.sha256()
        with reading(path):
            source = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
        with source:
            while chunk := self._read(source.fileno(), path):
                hasher.update(chunk)
        return hasher.hexdigest()

    def _read(self, descriptor: int, path: str) -> bytes:
        self.meter.check()
        with reading(path):
            return os.read(descriptor, CHUNK)


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


def _batches(files: Sequence[Found]) -> Iterator[Sequence[Found]]:
    """In order: files that are small together, each other by itself."""
    batch: list[Found] = []
    size = 0
    for file in files:
        full = len(batch) >= _BATCH_FILES or size + file.size > _BATCH_BYTES
        if batch and (full or file.size > _SMALL or batch[0].size > _SMALL):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _read_at_once(descriptor: int, size: int) -> bytes:
    """The content of a file that should have so many bytes, as far as it is there."""
    content = os.read(descriptor, size)
    while len(content) < size and (more := os.read(descriptor, size - len(content))):
        content += more
    return content


def _keep_folders(folders: Sequence[Path]) -> None:
    """Make the names in new folders, the first of which holds the others, durable."""
    if len(folders) > _FEW:
        descriptor = os.open(folders[0], os.O_RDONLY | os.O_DIRECTORY)
        try:
            if sync_file_system(descriptor):
                return
        finally:
            os.close(descriptor)
    for folder in folders:
        fsync_directory(folder)


def _changed(source: Path | str) -> SourceChanged:
    return SourceChanged(f"{source} changed while it was copied", where="this machine")


def _spoilt(target: str) -> ChecksumMismatch:
    return ChecksumMismatch(f"{target} does not hold what was written to it", where="this machine")


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
