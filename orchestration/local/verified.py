"""The bytes of one file: copied, made durable, and read back from the disk before anybody believes them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestration.local import small
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
        """`small.write`."""
        self.meter.check()
        checksum = small.write(source, target, size=file.size, mtime_ns=file.mtime_ns)
        self.meter.add(size=file.size)
        return checksum

    def verify_small(self, target: str, file: Found, checksum: str, *, durable: bool) -> None:
        """`small.verify`."""
        self.meter.check()
        small.verify(target, size=file.size, checksum=checksum, durable=durable)
        self.meter.add(files=1)

    def copy_file(self, source: str, file: Found, target: Path) -> CopiedFile:
        checksum = self._stream(source, file, target)
        if self.sha256(str(target)) != checksum:
            raise small.spoilt(target)
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
                small.write_all(sink.fileno(), chunk)
                self.meter.add(size=len(chunk))
            os.fsync(sink.fileno())
            small.forget_cached(sink.fileno())
            after = os.fstat(source.fileno())
        if (after.st_size, after.st_mtime_ns) != (file.size, file.mtime_ns):
            raise small.changed(path)
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
