"""Multi-tau correlation of whole frames on a GPU: what `dense` and `survey` do, a thread to a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.dense import HISTORY
from orchestration.science.xpcs.frames import Array
from orchestration.science.xpcs.gpu.device import Gpu
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.survey import Survey

_STRETCH, _FRAMES = 16, 32
"""Pixels of a thread, and frames of a row of blocks, that are summed: those of the kernel."""

Index = NDArray[np.int64]


@dataclass
class GpuSurvey(Survey):
    """Takes frames that are on the device."""

    gpu: Gpu
    flags: Array
    """(pixels,): `wanted`, on the device."""

    @classmethod
    def on(cls, gpu: Gpu, wanted: NDArray[np.bool_], frames: int) -> GpuSurvey:
        found = Survey.of(wanted, frames)
        return cls(wanted, found.total, found.means, gpu, gpu.cupy.asarray(wanted.astype(np.uint8)))

    def _sums(self, frames: Array) -> NDArray[np.float64]:
        count, pixels = frames.shape
        total, sums = self.gpu.cupy.zeros(pixels, dtype=np.float64), self.gpu.cupy.zeros(count, dtype=np.float64)
        self.gpu.run(
            "survey",
            -(-pixels // _STRETCH),
            *(frames, np.int32(count), np.int64(pixels), self.flags, total, sums),
            rows=-(-count // _FRAMES),
            frames=frames.dtype,
        )
        self.total += self.gpu.to_host(total)
        return self.gpu.to_host(sums)


@dataclass
class GpuSeries:
    """What is known of the time series of P pixels, after the frames so far: a `dense.Series` on the device."""

    gpu: Gpu
    lags: Lags
    pixel: Array
    """(P,)"""
    segment_level: int
    seen: int
    last: Array
    """(levels, HISTORY, P)"""
    carry: Array
    """(levels, P)"""
    total: Array
    """(P,)"""
    head: Array
    """(places, P)"""
    g2: Array
    """(places, P)"""
    segments: Array
    """(segments, P)"""

    @classmethod
    def of(cls, gpu: Gpu, pixel: Index, lags: Lags, *, segment_level: int) -> GpuSeries:
        levels, zeros = max(lags.levels, segment_level + 1), gpu.cupy.zeros
        held, places = len(pixel), 4 * levels + 4
        return cls(
            gpu=gpu,
            lags=lags,
            pixel=gpu.cupy.asarray(pixel),
            segment_level=segment_level,
            seen=0,
            last=zeros((levels, HISTORY, held), dtype=np.float32),
            carry=zeros((levels, held), dtype=np.float32),
            total=zeros(held, dtype=np.float64),
            head=zeros((places, held), dtype=np.float32),
            g2=zeros((places, held), dtype=np.float64),
            segments=zeros((lags.frames >> segment_level, held), dtype=np.float32),
        )

    def add(self, frames: Array, scale: NDArray[np.float32]) -> None:
        """Take the next frames, (count * average, rows * columns), as `dense.Series` does."""
        count, held, cupy = len(scale), len(self.pixel), self.gpu.cupy
        spare = cupy.empty((count // 2 + 1, held), dtype=np.float32)
        self.gpu.run(
            "add_frames",
            held,
            *(frames, np.int64(frames.shape[1]), np.int32(len(frames) // count), np.int32(count), np.int64(self.seen)),
            *(self.pixel, np.int64(held), cupy.asarray(scale), np.int32(len(self.carry))),
            *(self.last, self.carry, self.total, self.head, self.g2, spare),
            *(np.int32(self.segment_level), np.int64(len(self.segments)), self.segments),
            frames=frames.dtype,
        )
        self.seen += count

    def sums(self, unit: Index, units: int) -> NDArray[np.float64]:
        """Sums over units of pixels, (units, lags, 5): of G2, IP, IF, g2 - 1 and (g2 - 1)^2."""
        cupy = self.gpu.cupy
        inside, out = cupy.asarray(np.flatnonzero(unit >= 0)), np.zeros((units, len(self.lags), 5))
        place = cupy.asarray(unit[unit >= 0])
        for lag in range(len(self.lags)):
            both, earlier, later = self._values(lag)[:, inside]
            seen = both != 0.0
            own = cupy.where(seen, both / cupy.where(seen, earlier * later, 1.0), 0.0) - 1.0
            for column, values in enumerate((both, earlier, later, own, own * own)):
                found = cupy.bincount(place, weights=values, minlength=units)
                out[:, lag, column] = self.gpu.to_host(found)
        return out

    def pixels(self, lag: int) -> NDArray[np.float32]:
        """G2, IP and IF of the pixels at one lag, (3, P)."""
        return self.gpu.to_host(self._values(lag)).astype(np.float32)

    def segment_sums(self) -> NDArray[np.float32]:
        """Of each pixel the sums of the frames of each segment, (segments, P)."""
        return self.gpu.to_host(self.segments)

    def _values(self, lag: int) -> Array:
        held = len(self.pixel)
        found = self.gpu.cupy.empty((3, held), dtype=np.float64)
        level, distance = np.int32(self.lags.level[lag]), np.int32(self.lags.distance[lag])
        self.gpu.run(
            "lag_values",
            held,
            *(np.int64(held), np.int64(self.lags.frames), level, distance),
            *(self.last, self.carry, self.total, self.head, self.g2, found),
        )
        return found
