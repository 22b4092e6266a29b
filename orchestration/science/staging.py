"""Results appear under their names whole, or not at all.

All outputs of a run are written into one hidden folder beside their places and exchanged for what is there in the end.
The folder is locked for as long as its run lives, so that a later run can tell the remains of a killed one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from orchestration.science.errors import OutputFailed

_PREFIX = ".reconstructing-"
_STARTING = ".starting-"
_LOCK = "lock"
_EXCHANGE = 2
_HERE = -100


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A fresh hidden folder in `out`; it is gone afterwards, whatever happens but a kill."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        folder, lock = _locked_folder(out)
    except OSError as error:
        raise OutputFailed(f"the output folder cannot be used: {error.strerror}", where=str(out)) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _locked_folder(out: Path) -> tuple[Path, TextIO]:
    """It gets the name by which others find it once it is locked, so that none takes it for a dead one."""
    unlocked = Path(tempfile.mkdtemp(prefix=_STARTING, dir=out))
    lock = (unlocked / _LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return unlocked.rename(out / f"{_PREFIX}{unlocked.name.removeprefix(_STARTING)}"), lock


def publish(staged: Path, final: Path) -> None:
    """Put a staged file or folder in place of what may be there; afterwards the old one lies in the staging folder."""
    try:
        if staged.is_dir() and final.exists():
            _exchange(staged, final)
        else:
            staged.replace(final)
    except OSError as error:
        raise OutputFailed(f"a result cannot be put in place: {error.strerror}", where=str(final)) from error


def _exchange(staged: Path, final: Path) -> None:
    """Swap two names in one step where the system can, in two where it cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        if rename(_HERE, os.fsencode(staged), _HERE, os.fsencode(final), _EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
            raise OSError(number, os.strerror(number), str(final))
    final.replace(staged.with_name(f"{staged.name}.old"))
    staged.replace(final)


def _sweep(out: Path) -> None:
    """Remove what killed runs left in this folder."""
    for folder in out.glob(f"{_PREFIX}*"):
        try:
            with (folder / _LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Locked: its run lives.
            continue
