"""What the operating system's refusals mean to somebody who waits for data."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from orchestration.errors import AccessDenied, EndpointRefused, NoSpace, SourceMissing, TransferFailed

_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WRONG_KIND = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP})


class _Told:
    """A context in which an error of the operating system is told in our words. Entered for each of very many files."""

    __slots__ = ("_path", "_words")

    def __init__(self, path: Path | str, words: Callable[[OSError, Path | str], TransferFailed]) -> None:
        self._path = path
        self._words = words

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise self._words(error, self._path) from error


def reading(path: Path | str) -> AbstractContextManager[None, None]:
    """Errors of the block are those of reading `path`."""
    return _Told(path, _unreadable)


def writing(path: Path | str) -> AbstractContextManager[None, None]:
    """Errors of the block are those of writing at `path`."""
    return _Told(path, _unwritable)


def _unreadable(error: OSError, path: Path | str) -> TransferFailed:
    if error.errno in _MISSING:
        return SourceMissing(f"there is nothing at {path}", where="this machine")
    if error.errno in _DENIED:
        return AccessDenied(f"{path} may not be read", where="this machine")
    if error.errno in _WRONG_KIND:
        return EndpointRefused(f"{path} cannot be read: {_said(error)}", where="this machine")
    return _broken("read", path, error)


def _unwritable(error: OSError, path: Path | str) -> TransferFailed:
    if error.errno in _FULL:
        return NoSpace(f"{path} cannot be written: {_said(error)}", where="this machine")
    if error.errno in _DENIED:
        return AccessDenied(f"{path} may not be written: {_said(error)}", where="this machine")
    if error.errno in _WRONG_KIND:
        return EndpointRefused(f"{path} cannot be written: {_said(error)}", where="this machine")
    return _broken("written", path, error)


def _broken(verb: str, path: Path | str, error: OSError) -> TransferFailed:
    return TransferFailed(
        f"{path} cannot be {verb}: {_said(error)}",
        where="this machine",
        next_step="check the disk or the mount, then start the flow again",
    )


def _said(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
