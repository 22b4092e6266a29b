"""Sums over frames and over pixels: the mean scattering, and how bright each frame was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import FramesNotFinite
from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.frames import Array, TimedEvents
from orchestration.science.xpcs.threads import in_threads

_BLOCK = 4096
"""Pixels that one thread looks at at a time: their sums fit the fastest cache."""


@dataclass
class Survey:
    """What was counted in the frames so far."""

    wanted: NDArray[np.bool_]
    """(pixels,): those over which the mean of a frame is taken."""
    total: NDArray[np.float64]
    """(pixels,): counts of all frames, whether wanted or not."""
    means: NDArray[np.float64]
    """(N,): the mean count of the wanted pixels in each (averaged) frame; those to come are 0."""

    @classmethod
    def of(cls, wanted: NDArray[np.bool_], frames: int) -> Survey:
        return cls(wanted, np.zeros(len(wanted), dtype=np.float64), np.zeros(frames, dtype=np.float64))

    def add(self, frames: Array, first: int, *, average: int, group: int, path: Path) -> None:
        """Take frames, (count * group, pixels), of which the first is a part of frame `first`.

        `average` frames of the file make one; a `group` of those given holds all of them, perhaps as their sum.

        Raises:
            FramesNotFinite: if a value is not.
        """
        sums = self._sums(frames)
        if not np.isfinite(sums).all():
            at = first * average + int(np.argmin(np.isfinite(sums))) * (average // group)
            where = f"{path}, about frame {at} of those selected"
            raise FramesNotFinite("frames hold values that are not finite", where=where)
        means: NDArray[np.float64] = sums.reshape(-1, group).sum(axis=1) / (average * np.count_nonzero(self.wanted))
        self.means[first : first + len(means)] = means

    def _sums(self, frames: Array) -> NDArray[np.float64]:
        """The sum of each frame over the wanted pixels; adds all frames to the total."""
        count, pixels = frames.shape
        kind = _sum_type(frames)
        parts = np.zeros((-(-pixels // _BLOCK), count), dtype=np.float64)
        wanted = self.wanted.astype(kind)

        def add(low: int, high: int) -> None:
            _sum_blocks(low, high, frames, wanted, self.total, np.empty(_BLOCK, kind), parts)

        in_threads(len(parts), add)
        sums: NDArray[np.float64] = parts.sum(axis=0)
        return sums

    def count(self, events: TimedEvents, held: NDArray[np.int64], *, average: int) -> None:
        """Take events. How many of those selected are at each pixel is added to `held`."""
        size = average * np.count_nonzero(self.wanted)
        sums = self.wanted, self.total, held, self.means
        _count(events.pixel, events.count, events.time, sums, 1.0 / size)


def scales(means: NDArray[np.float64], *, average: int, normalise: bool) -> NDArray[np.float32]:
    """What the sum of `average` frames is multiplied by, so that each frame has the mean 1 (or is a mean of them).

    A frame without any count stays as it is.
    """
    factors = np.full(len(means), 1.0 / average)
    if normalise:
        np.divide(factors, means, out=factors, where=means > 0)
    return factors.astype(np.float32)


def _sum_type(frames: NDArray[np.generic]) -> type[np.generic]:
    """For sums over a block of pixels, or over these frames: the narrower, the more are summed at a time."""
    if frames.dtype.kind == "f":
        return np.float64
    return np.int32 if frames.dtype.itemsize <= 2 and len(frames) <= _BLOCK else np.int64


@compiled()
def _sum_blocks(low, high, frames, wanted, total, here, parts):  # type: ignore[no-untyped-def]
    for block in range(low, high):
        first = block * _BLOCK
        size = min(frames.shape[1] - first, _BLOCK)
        flags = wanted[first : first + size]
        here[:] = 0
        for t in range(len(frames)):
            row = frames[t, first : first + size]
            part = flags[0] * 0
            for p in range(size):
                here[p] += row[p]
                part += row[p] * flags[p]
            parts[block, t] = part
        for p in range(size):
            total[first + p] += here[p]


@compiled()
def _count(pixel, count, time, sums, factor):  # type: ignore[no-untyped-def]
    wanted, total, held, means = sums
    for i in range(len(pixel)):
        if time[i] >= 0:
            place = pixel[i]
            total[place] += count[i]
            held[place] += 1
            if wanted[place]:
                means[time[i]] += count[i] * factor
