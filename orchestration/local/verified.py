"""The bytes of one file: copied, made durable, and read back from the disk before anybody believes them."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestration.errors import ChecksumMismatch, SourceChanged
from orchestration.local.errors import reading, writing
from orchestration.local.trees import Found
from orchestration.local.work import Meter

CHUNK = 4 * 1024 * 1024


class CopiedFile(NamedTuple):
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes files for one piece of work, whose progress the meter tells."""

    meter: Meter

    def write_small(self, source: str, file: Found, target: str) -> str:
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
            raise changed(source)
        with writing(target):
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                _write(descriptor, content)
            finally:
                os.close(descriptor)
        self.meter.add(size=file.size)
        return hashlib.sha256(content).hexdigest()

    def verify_small(self, target: str, file: Found, checksum: str, *, durable: bool) -> None:
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
            raise spoilt(target)
        self.meter.add(files=1)

    def copy_file(self, source: str, file: Found, target: Path) -> CopiedFile:
        checksum = self._stream(source, file, target)
        if self.sha256(str(target)) != checksum:
            raise spoilt(str(target))
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
            raise changed(path)
        return hasher.hexdigest()

    def sha256(self, path: str) -> str:
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


def forget_cached(descriptor: int) -> None:
    """So that the check reads what the disk has, where the system lets us ask for that."""
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def changed(source: Path | str) -> SourceChanged:
    return SourceChanged(f"{source} changed while it was copied", where="this machine")


def spoilt(target: str) -> ChecksumMismatch:
    return ChecksumMismatch(f"{target} does not hold what was written to it", where="this machine")


def _read_at_once(descriptor: int, size: int) -> bytes:
    """The content of a file that should have so many bytes, as far as it is there."""
    content = os.read(descriptor, size)
    while len(content) < size and (more := os.read(descriptor, size - len(content))):
        content += more
    return content


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
