"""Where the description of a measurement lies, and what its result is called."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from orchestration.science.errors import MetadataMissing, OutputFailed, ParametersInvalid
from orchestration.science.xpcs.listing import METADATA_ENDING, base, metadata_name

_MARK = "/entry/schema_version"

_LONGEST = 255 - len(".json")
"""Bytes, without the ending."""

_NO_LOCKS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP})


def find_metadata(raw: Path) -> Path:
    """The ``*_metadata.hdf`` beside a raw file that describes its measurement.

    Raises:
        MetadataMissing: if there is none, or several of which none is called like the raw file.
    """
    names = (path.name for path in raw.parent.glob(f"*{METADATA_ENDING}") if path.is_file())
    found = raw.with_name(metadata_name(raw.name, names, where=str(raw.parent)))
    _demand_readable(found)
    return found


def _demand_readable(path: Path) -> None:
    try:
        with h5py.File(path, "r") as file:
            marked = _MARK in file
    except OSError as error:
        raise MetadataMissing(f"the metadata cannot be read: {error}", where=str(path)) from error
    if not marked:
        raise MetadataMissing(f"the metadata has no {_MARK}", where=str(path))


@dataclass(frozen=True, kw_only=True)
class Names:
    """``[<prefix>_]<base>[_<suffix>]_results.hdf`` in a folder, with the receipt beside it."""

    folder: Path
    name: str
    """Without the ending, nor the number that tells later results from earlier ones."""

    @classmethod
    def of(cls, metadata: Path, folder: Path, *, prefix: str = "", suffix: str = "") -> Names:
        """Raises ParametersInvalid if prefix or suffix cannot be part of a file's name."""
        for part in (prefix, suffix):
            if part and (part != Path(part).name or "\0" in part):
                raise ParametersInvalid(f"{part!r} cannot be part of a file's name", where="parameters")
        name = "_".join(part for part in (prefix, base(metadata.name), suffix, "results") if part)
        if len(os.fsencode(name)) > _LONGEST:
            what = f"the name of the result would have {len(os.fsencode(name))} bytes, more than {_LONGEST}"
            raise ParametersInvalid(what, where="parameters", next_step="choose a shorter prefix or suffix")
        return cls(folder=folder, name=name)

    def result(self, number: int = 0) -> Path:
        return self.folder / f"{self.name}{f'_{number}' if number else ''}.hdf"

    @staticmethod
    def receipt(result: Path) -> Path:
        return result.with_suffix(".json")

    def put(self, staged: Path, receipt: Callable[[Path], Path], *, overwrite: bool) -> Path:
        """Put a result and its receipt in place; its path.

        Without `overwrite`, under the first number that is free. The receipt comes last: where it is, all is of one
        run.

        Args:
            receipt: writes that of a result of this path, and says where.

        Raises:
            OutputFailed: if the file system does not let us.
        """
        try:
            if overwrite:
                result = self.result()
                paper = receipt(result)
                with _alone(self.folder):
                    self.receipt(result).unlink(missing_ok=True)
                    staged.replace(result)
                    paper.replace(self.receipt(result))
                return result
            return self._numbered(staged, receipt)
        except OSError as error:
            raise OutputFailed(
                f"the result cannot be put in place: {error.strerror}", where=str(self.folder)
            ) from error

    def _numbered(self, staged: Path, receipt: Callable[[Path], Path]) -> Path:
        """Another run may take a name at the same time: then the next one is tried."""
        number = 0
        while True:
            result = self.result(number)
            paper = receipt(result)
            try:
                _take(staged, result)
            except FileExistsError:
                number += 1
            else:
                paper.replace(self.receipt(result))
                return result


def _take(staged: Path, result: Path) -> None:
    """Raises FileExistsError if the name is taken: a link is made only where nothing is."""
    try:
        os.link(staged, result)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP}:
            raise
        # This file system has no links: the name is taken first.
        result.touch(exist_ok=False)
        staged.replace(result)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other run puts anything in place meanwhile, where the file system lets a folder be locked."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)
