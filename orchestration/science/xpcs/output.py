"""The result file: that of the measurement's metadata, with the qmap and what was computed, as boost_corr lays it out.

pyXpcsViewer and ``xpcs-viewer`` read it. What is stored beyond that layout: the datasets ``normalized_g2_weighted`` and
``normalized_g2_jackknife_err`` of ``/xpcs/multitau``, and ``/xpcs/twotime/delay_list``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import MetadataMissing
from orchestration.science.xpcs import lzf

ROOT = "/xpcs"
MULTITAU = f"{ROOT}/multitau"
TWOTIME = f"{ROOT}/twotime"
SCATTERING_2D = f"{ROOT}/temporal_mean/scattering_2d"
SCATTERING_1D = f"{ROOT}/temporal_mean/scattering_1d"
SEGMENTS_1D = f"{ROOT}/temporal_mean/scattering_1d_segments"
INTENSITY = f"{ROOT}/spatial_mean/intensity_vs_time"

_COMPRESSED = 8192
"""Arrays with more elements are compressed."""

LARGEST_CHUNK = 2**30
"""Bytes; larger arrays are stored in several chunks. HDF5 cannot have one of 4 GiB."""

Scalar = str | int | float | bool

_LOST: list[object] = []
"""What HDF5 has open of files that could not be written, by which they stay open."""


class ResultFile:
    """An HDF5 file that is being written."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def array(self, name: str, values: NDArray[np.generic]) -> None:
        chunks = values.shape[-2:] if values.ndim > 1 else values.shape
        self.empty(name, values.shape, values.dtype, chunks=(1,) * (values.ndim - len(chunks)) + chunks)
        self.rows(name, 0, values)

    def empty(self, name: str, shape: tuple[int, ...], dtype: object, *, chunks: tuple[int, ...]) -> None:
        """A dataset to be filled; compressed chunk by chunk if it is large."""
        packed = {"chunks": chunks, "compression": "lzf"} if np.prod(shape) > _COMPRESSED else {}
        self._file.create_dataset(name, shape=shape, dtype=dtype, **packed)

    def rows(self, name: str, first: int, values: NDArray[np.generic]) -> None:
        """Rows `first` and on of a dataset that is there."""
        with _written(self._file[name]) as dataset:
            dataset[first : first + len(values)] = values

    def triangle(self, name: str, first: int, values: NDArray[np.float32]) -> None:
        """The rows of the chunk that begins with row `first`, of a square that is zero below its diagonal."""
        if self._file[name].compression == "lzf" and lzf.suits(first, values):
            with _written(self._file[name]) as dataset:
                stream = lzf.pack(first, values, height=dataset.chunks[0])
                dataset.id.write_direct_chunk((first, 0), stream)
        else:
            self.rows(name, first, values)

    def scalars(self, group: str, values: Mapping[str, Scalar | list[int]]) -> None:
        for name, value in values.items():
            self.scalar(f"{group}/{name}", value)

    def scalar(self, name: str, value: Scalar | list[int]) -> None:
        with _written(self._file.create_dataset(name, data=value)):
            pass


@contextmanager
def _written(dataset: h5py.Dataset) -> Iterator[h5py.Dataset]:
    """A dataset whose values are in the file in the end.

    What HDF5 keeps for later, and cannot write when the dataset goes out of use, is lost without an error.

    Raises:
        OSError: if they cannot be written.
    """
    with _telling():
        yield dataset
        dataset.flush()


@contextmanager
def _telling() -> Iterator[None]:
    """OSError in place of what h5py says where something cannot be written."""
    try:
        yield
    except RuntimeError as error:
        number = re.search(r"errno = (\d+)", str(error))
        raise (OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))) from error


@contextmanager
def result_file(path: Path, *, metadata: Path, qmap: Path) -> Iterator[ResultFile]:
    """A new file with everything that is known before anything is computed.

    Raises:
        MetadataMissing: if the metadata cannot be copied.
        OSError: if the file cannot be completed.
    """
    shutil.copyfile(metadata, path)
    path.chmod(0o644)
    try:
        file = h5py.File(path, "r+")
    except OSError as error:
        raise MetadataMissing(f"the metadata cannot be written to: {error}", where=str(metadata)) from error
    try:
        with _telling(), h5py.File(qmap, "r") as source:
            if ROOT in file:
                del file[ROOT]
            source.copy("/qmap", file.require_group(ROOT), name="qmap")
            file.flush()
        yield ResultFile(file)
        with _telling():
            file.flush()
    except OSError:
        _abandon(file, path)
        raise
    except BaseException:
        file.close()
        raise
    file.close()


def _abandon(file: h5py.File, path: Path) -> None:
    """Let go of a file that cannot be written, but for what HDF5 knows of it: to close that would end the process."""
    _LOST.extend(h5py.h5f.get_obj_ids(file.id, h5py.h5f.OBJ_ALL))
    os.truncate(path, 0)
