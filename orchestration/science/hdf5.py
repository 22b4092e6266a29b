"""HDF5 files opened for reading, with errors that say what is wrong with the file rather than with HDF5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from orchestration.science.errors import (
    NotHdf5,
    ScanEmpty,
    ScanMissing,
    ScanStillOpen,
    ScanTruncated,
    ScanUnreadable,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open a scan.

    Raises:
        ScanUnreadable: or one of its kinds, when it is not a whole HDF5 file that no writer has open.
    """
    check_bytes(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _open_error(error, path) from error
    with file:
        yield file


def check_bytes(path: Path) -> None:
    """Refuse what HDF5's own messages would not explain."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(12)
    except OSError as error:
        raise ScanMissing(f"the scan cannot be read: {error.strerror}", where=str(path)) from error
    if size == 0:
        raise ScanEmpty("the scan has zero bytes", where=str(path))
    if not head.startswith(SIGNATURE):
        raise NotHdf5("the scan is not an HDF5 file", where=str(path))
    # Superblock 3: bit 0 of the consistency flags says open for writing, bit 2 for SWMR writing.
    if len(head) == 12 and head[8] >= 3 and head[11] & 0b101:
        raise ScanStillOpen("the scan is still open for writing", where=str(path))


def _open_error(error: OSError, path: Path) -> ScanUnreadable:
    text = str(error)
    if "truncated" in text or "eof" in text:
        return ScanTruncated("the scan is truncated", where=str(path))
    if "lock" in text or "already open for write" in text:
        return ScanStillOpen("the scan is still open for writing", where=str(path))
    return ScanUnreadable(f"the scan cannot be opened: {text}", where=str(path))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around reads from an open file.

    Raises:
        ScanTruncated: when the file's own structure holds but its data cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise ScanTruncated(f"data of the scan cannot be read: {error}", where=str(path)) from error
