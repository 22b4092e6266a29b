"""What computes: the processors of this machine, or one of its GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs import dense, sparse, twotime
from orchestration.science.xpcs.frames import Array
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.panels import Panels
from orchestration.science.xpcs.survey import Survey

PROCESSORS = -1
"""Stands for them in the place of the number of a GPU."""

Index = NDArray[np.int64]


class Series(Protocol):
    """The time series of some pixels, as far as frames have come: see `dense.Series`."""

    def add(self, frames: Array, scale: NDArray[np.float32]) -> None: ...
    def sums(self, unit: Index, units: int) -> NDArray[np.float64]: ...
    def pixels(self, lag: int) -> NDArray[np.float32]: ...
    def segment_sums(self) -> NDArray[np.float32]: ...


class Correlate(Protocol):
    """Of events: see `sparse.correlate`."""

    def __call__(
        self,
        train: sparse.Train,
        scale: NDArray[np.float32],
        start: Index,
        lags: Lags,
        *,
        segment_level: int,
        keep_pixels: bool,
    ) -> sparse.Correlated: ...


class Engine(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def bytes_per_event(self) -> int: ...
    def room(self, given: int) -> int:
        """Bytes that it may use, where so many are given of this machine's memory."""

    def empty(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        """Room for frames that are read."""

    def taken(self, frames: NDArray[Any]) -> Array:
        """The same frames, where they are computed with."""

    def survey(self, wanted: NDArray[np.bool_], count: int) -> Survey: ...
    def bytes_per_pixel(self, lags: Lags, *, segment_level: int) -> int: ...
    def series(self, wanted: Index, lags: Lags, *, pixels: int, segment_level: int) -> Series: ...
    @property
    def correlate(self) -> Correlate: ...
    def whole_frames(self, values: NDArray[np.generic], part: Index) -> twotime.Bin: ...


@contextmanager
def engine(gpu_id: int) -> Iterator[Engine]:
    """That of boost_corr's option ``-i``: a GPU by its number, `device.ANY` free one, or `PROCESSORS`.

    Raises:
        DeviceMissing: if there is no such GPU.
        DeviceFailed: if it fails meanwhile.
    """
    if gpu_id == PROCESSORS:
        yield Processors()
        return
    # Only who asks for one waits for what it takes.
    from orchestration.science.xpcs.gpu.device import opened
    from orchestration.science.xpcs.gpu.graphics import Graphics

    with opened(gpu_id) as gpu:
        yield Graphics(gpu)


class Processors:
    """All that this process may use."""

    name = "cpu"
    bytes_per_event = 6

    def room(self, given: int) -> int:
        return given

    def empty(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        return np.empty(shape, dtype=kind)

    def taken(self, frames: NDArray[Any]) -> Array:
        return frames

    def survey(self, wanted: NDArray[np.bool_], count: int) -> Survey:
        return Survey.of(wanted, count)

    def bytes_per_pixel(self, lags: Lags, *, segment_level: int) -> int:
        return dense.Series.bytes_per_pixel(lags, segment_level=segment_level)

    def series(self, wanted: Index, lags: Lags, *, pixels: int, segment_level: int) -> Series:
        return dense.Series.of(Panels.of(wanted, pixels=pixels), lags, segment_level=segment_level)

    @property
    def correlate(self) -> Correlate:
        return sparse.correlate

    def whole_frames(self, values: NDArray[np.generic], part: Index) -> twotime.Bin:
        return twotime.WholeFrames.of(values, part)
