"""Give new names, and exchange two, in one step, as far as the file system can."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


def exchange(one: Path, other: Path) -> None:
    """`one` and `other` swap what they name: atomically on Linux's local file systems.

    Elsewhere (NFS, for one) `other` is absent for the moment between two renames.
    """
    if not _exchange_at_once(one, other):
        exchange_by_renames(one, other)


def exchange_by_renames(one: Path, other: Path) -> None:
    aside = one.with_name(f"{one.name[:200]}.old")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def rename_new(one: Path, other: Path) -> None:
    """`one` is called `other` from now on, which nothing may be called yet.

    On Linux's local file systems nothing is replaced even if it appears in that very moment. Elsewhere (NFS, for one)
    it is looked for first.

    Raises:
        OSError: FileExistsError if there is an `other`; of number EXDEV between two file systems.
    """
    if _at_once(one, other, _RENAME_NOREPLACE):
        return
    if os.path.lexists(other):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(other))
    one.rename(other)


def _exchange_at_once(one: Path, other: Path) -> bool:
    return _at_once(one, other, _RENAME_EXCHANGE)


def _at_once(one: Path, other: Path, flags: int) -> bool:
    """False if the file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))
