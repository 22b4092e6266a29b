"""Small files: each copied in one piece, and read back from the disk when it is durable.

Imports next to nothing: the processes that do this for others (`porter`) are to start at once, and to be small.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from orchestration.errors import ChecksumMismatch, SourceChanged
from orchestration.local.errors import reading, writing


class Write(NamedTuple):
    """To copy files, not durably yet, from below one folder to below another; it gives the SHA-256 of each."""

    source: str
    target: str
    files: Sequence[tuple[str, int, int]]
    """Name, size in bytes and mtime in nanoseconds of each."""

    def perform(self, check: Callable[[], None]) -> Sequence[str]:
        """`check` is called before each file, and may raise."""
        sums = []
        for name, size, mtime_ns in self.files:
            check()
            sums.append(write(f"{self.source}/{name}", f"{self.target}/{name}", size=size, mtime_ns=mtime_ns))
        return sums


class Verify(NamedTuple):
    """To read files back that were written below a folder; it gives the SHA-256 of each."""

    target: str
    files: Sequence[tuple[str, int, str]]
    """Name, size in bytes and SHA-256 of each."""
    durable: bool
    """Whether they are; else each is made so."""

    def perform(self, check: Callable[[], None]) -> Sequence[str]:
        """`check` is called before each file, and may raise."""
        for name, size, checksum in self.files:
            check()
            verify(f"{self.target}/{name}", size=size, checksum=checksum, durable=self.durable)
        return [checksum for _, _, checksum in self.files]


Order: TypeAlias = Write | Verify


def write(source: str, target: str, *, size: int, mtime_ns: int) -> str:
    """Copy the bytes, not durably yet; returns the SHA-256 of what was read.

    Raises:
        TransferFailed: (one of its subclasses) what the operating system says, or that the source is another now.
    """
    with reading(source):
        descriptor = os.open(source, os.O_RDONLY)
        try:
            content = _read_at_once(descriptor, size)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    if (len(content), after.st_size, after.st_mtime_ns) != (size, size, mtime_ns):
        raise changed(source)
    with writing(target):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)
    return hashlib.sha256(content).hexdigest()


def verify(target: str, *, size: int, checksum: str, durable: bool) -> None:
    """Compare what the disk has with what was read.

    Raises:
        ChecksumMismatch: if it is not that.
    """
    with writing(target):
        descriptor = os.open(target, os.O_RDWR)
        try:
            if not durable:
                os.fsync(descriptor)
            forget_cached(descriptor)
            content = _read_at_once(descriptor, size + 1)
        finally:
            os.close(descriptor)
    if len(content) != size or hashlib.sha256(content).hexdigest() != checksum:
        raise spoilt(target)


def write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def forget_cached(descriptor: int) -> None:
    """So that the check reads what the disk has, where the system lets us ask for that."""
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def changed(source: object) -> SourceChanged:
    return SourceChanged(f"{source} changed while it was copied", where="this machine")


def spoilt(target: object) -> ChecksumMismatch:
    return ChecksumMismatch(f"{target} does not hold what was written to it", where="this machine")


def _read_at_once(descriptor: int, size: int) -> bytes:
    """The content of a file up to so many bytes, as far as it is there."""
    content = os.read(descriptor, size)
    while len(content) < size and (more := os.read(descriptor, size - len(content))):
        content += more
    return content
