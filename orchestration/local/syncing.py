"""Make many files durable with one call, where the system can."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestration.local.jobfolder import fsync_directory

FEW = 32
"""So many files, or folders, are made durable one by one: the others of their file system need not be waited for."""

_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


def sync_file_system(descriptor: int) -> bool:
    """Make all durable that was written to the file system of an open file; False where that cannot be asked.

    Linux tells of writes that failed since the descriptor was opened: open it before writing.
    """
    sync = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if sync is None:
        return False
    if sync(descriptor) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number))


class FileSystems:
    """Those in which some folders are. Made before anything is written there: it is told of what could not be."""

    def __init__(self, folders: Collection[Path]) -> None:
        self._open: dict[int, int] = {}
        try:
            for folder in folders:
                device = folder.stat().st_dev
                if device not in self._open:
                    self._open[device] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def sync(self) -> bool:
        """Make durable what was written there; False if one of them cannot be asked."""
        return all(sync_file_system(descriptor) for descriptor in self._open.values())


def keep_folders(folders: Collection[Path]) -> None:
    """Make the names in folders durable."""
    if len(folders) > FEW:
        with FileSystems(folders) as systems:
            if systems.sync():
                return
    for folder in folders:
        fsync_directory(folder)
