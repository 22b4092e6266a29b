"""Make many files durable with one call, where the system can."""

from __future__ import annotations

import ctypes
import errno
import os

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
