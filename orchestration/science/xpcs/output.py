"""The result file: that of the measurement's metadata, with the qmap and what was computed, as boost_corr lays it out.

pyXpcsViewer and ``xpcs-viewer`` read it. What is stored beyond that layout: the datasets ``normalized_g2_weighted`` and
``normalized_g2_jackknife_err`` of ``/xpcs/multitau``, and ``/xpcs/twotime/delay_list``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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


class ResultFile:
    """An HDF5 file that is being written."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def array(self, name: str, values: NDArray[np.generic]) -> None:
        chunks = values.shape[-2:] if values.ndim > 1 else values.shape
        self.empty(name, values.shape, values.dtype, chunks=(1,) * (values.ndim - len(chunks)) + chunks)[...] = values

    def empty(self, name: str, shape: tuple[int, ...], dtype: object, *, chunks: tuple[int, ...]) -> h5py.Dataset:
        """A dataset to be filled; compressed chunk by chunk if it is large."""
        packed = {"chunks": chunks, "compression": "lzf"} if np.prod(shape) > _COMPRESSED else {}
        return self._file.create_dataset(name, shape=shape, dtype=dtype, **packed)

    def rows(self, name: str, first: int, values: NDArray[np.generic]) -> None:
        """Rows `first` and on of a dataset that is there."""
        self._file[name][first : first + len(values)] = values

    def triangle(self, name: str, first: int, values: NDArray[np.float32]) -> None:
        """The rows of the chunk that begins with row `first`, of a square that is zero below its diagonal."""
        dataset = self._file[name]
        if dataset.compression == "lzf" and lzf.suits(first, values):
            stream = lzf.pack(first, values, height=dataset.chunks[0])
            dataset.id.write_direct_chunk((first, 0), stream.tobytes())
        else:
            self.rows(name, first, values)

    def scalars(self, group: str, values: Mapping[str, Scalar | list[int]]) -> None:
        for name, value in values.items():
            self._file[f"{group}/{name}"] = value

    def text(self, name: str, value: str) -> None:
        self._file[name] = value


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
        if ROOT in file:
            del file[ROOT]
        with h5py.File(qmap, "r") as source:
            source.copy("/qmap", file.require_group(ROOT), name="qmap")
        yield ResultFile(file)
    except BaseException:
        # After what could not be written, nothing can be closed properly: the first error is the one to be told.
        with suppress(RuntimeError):
            file.close()
        raise
    try:
        file.close()
    except RuntimeError as error:  # as h5py has it when what is still in memory cannot be written
        raise OSError(str(error)) from error
