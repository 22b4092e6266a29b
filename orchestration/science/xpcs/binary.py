"""Binary files of detectors: read at any place, and seen to be the same from first to last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ScanEmpty, ScanMissing, ScanStillOpen, ScanTruncated


@dataclass(frozen=True)
class Witness:
    """Size and time of change of files when they were opened."""

    seen: tuple[tuple[Path, int, int], ...]

    @classmethod
    def of(cls, *paths: Path) -> Witness:
        """Look at the files.

        Raises:
            ScanMissing: naming the first that is not there.
            ScanEmpty: naming the first that has no bytes.
        """
        seen = tuple((path, *_stat(path)) for path in paths)
        for path, size, _ in seen:
            if size == 0:
                raise ScanEmpty("the raw file has zero bytes", where=str(path))
        return cls(seen)

    def demand_unchanged(self) -> None:
        """Raise ScanStillOpen if one of the files is no longer what it was: what was read then may be half of it."""
        for path, size, changed in self.seen:
            now, changed_now = _stat(path)
            if now != size:
                raise ScanStillOpen(f"the raw file went from {size} to {now} bytes while it was read", where=str(path))
            if changed_now != changed:
                raise ScanStillOpen("the raw file was written to while it was read", where=str(path))


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise ScanMissing(f"the raw file cannot be read: {error.strerror}", where=str(path)) from error
    return found.st_size, found.st_mtime_ns


class BinaryFile:
    """An open file.

    It is read rather than mapped: where a mapped file is cut short, the system ends the process without a word.
    """

    def __init__(self, path: Path, stream: FileIO) -> None:
        self.path = path
        self.size = os.fstat(stream.fileno()).st_size
        self._stream = stream

    def read(self, offset: int, out: NDArray[Any]) -> None:
        """Fill a contiguous array with the bytes from `offset` on.

        Raises:
            ScanTruncated: if there are not so many.
        """
        if not out.size:
            return
        view = out.data.cast("B")
        try:
            while len(view):
                got = os.preadv(self._stream.fileno(), [view], offset)
                if got == 0:
                    what = f"the raw file ends at byte {offset}, {len(view)} bytes too early"
                    raise ScanTruncated(what, where=str(self.path))
                view, offset = view[got:], offset + got
        except OSError as error:
            what = f"the raw file cannot be read at byte {offset}: {error.strerror}"
            raise ScanTruncated(what, where=str(self.path)) from error

    def peek(self, offset: int, size: int) -> bytes:
        """Some bytes, fewer at the end of the file."""
        kept = max(0, min(size, self.size - offset))
        out = np.empty(kept, dtype=np.uint8)
        if kept:
            self.read(offset, out)
        return out.tobytes()


@contextmanager
def open_binary(path: Path) -> Iterator[BinaryFile]:
    """Open a file.

    Raises:
        ScanMissing: if that cannot be done.
    """
    try:
        stream = FileIO(path)
    except OSError as error:
        raise ScanMissing(f"the raw file cannot be read: {error.strerror}", where=str(path)) from error
    with stream:
        yield BinaryFile(path, stream)
