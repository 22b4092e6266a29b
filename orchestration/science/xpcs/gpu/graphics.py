"""A GPU as what computes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs import dense, twotime
from orchestration.science.xpcs.blocks import LONGEST
from orchestration.science.xpcs.engines import Correlate, Index, Series
from orchestration.science.xpcs.frames import Array
from orchestration.science.xpcs.gpu import events
from orchestration.science.xpcs.gpu.device import Gpu
from orchestration.science.xpcs.gpu.frames import GpuSeries, GpuSurvey
from orchestration.science.xpcs.gpu.products import GpuWholeFrames
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.survey import Survey


class Graphics:
    """One GPU."""

    bytes_per_event = events.BYTES_PER_EVENT

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    @property
    def name(self) -> str:
        return f"gpu {self._gpu.number}"

    def room(self, given: int) -> int:
        """Half of what is free there: the frames of a block have to fit, too."""
        return min(given, self._gpu.free // 2)

    def empty(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        return self._gpu.empty_pinned(shape, kind)

    def taken(self, frames: NDArray[Any]) -> Array:
        return self._gpu.to_device(frames)

    def survey(self, wanted: NDArray[np.bool_], count: int) -> Survey:
        return GpuSurvey.on(self._gpu, wanted, count)

    def bytes_per_pixel(self, lags: Lags, *, segment_level: int) -> int:
        return dense.Series.bytes_per_pixel(lags, segment_level=segment_level) + 4 * (LONGEST // 2 + 1)

    def series(self, wanted: Index, lags: Lags, *, pixels: int, segment_level: int) -> Series:
        return GpuSeries.of(self._gpu, wanted, lags, segment_level=segment_level)

    @property
    def correlate(self) -> Correlate:
        return partial(events.correlate, self._gpu)

    def whole_frames(self, values: NDArray[np.generic], part: Index) -> twotime.Bin:
        return GpuWholeFrames.on(self._gpu, values, part)
