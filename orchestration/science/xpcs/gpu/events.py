"""Multi-tau correlation of photon events on a GPU: what `sparse.correlate` does, a thread to a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.gpu.device import Gpu
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.sparse import Correlated, Index, Train

BYTES_PER_EVENT = 14
"""Time and count, and room for the time and value at a level."""


def correlate(
    gpu: Gpu,
    train: Train,
    scale: NDArray[np.float32],
    start: Index,
    lags: Lags,
    *,
    segment_level: int,
    keep_pixels: bool,
) -> Correlated:
    """The correlation of the pixels of a train, as `sparse.correlate` makes it."""
    cupy, units, events = gpu.cupy, len(start) - 1, len(train.time)
    every = len(train.filled) if keep_pixels else 0
    sums = cupy.zeros((units, len(lags), 6), dtype=np.float64)
    segments = cupy.zeros((units, lags.frames >> segment_level), dtype=np.float64)
    pixels = cupy.zeros((len(lags), 3, every), dtype=np.float32)
    room = cupy.empty(events, dtype=np.int32), cupy.empty(events, dtype=np.float32)
    given = (cupy.asarray(each) for each in (train.start, train.time, train.count, scale, start))
    level, distance = (cupy.asarray(each.astype(np.int32)) for each in (lags.level, lags.distance))
    gpu.run_blocks(
        "correlate_events",
        units,
        *(*given, level, distance, np.int32(len(lags)), np.int64(lags.frames), np.int32(segment_level)),
        *(*room, sums, segments, pixels, np.int64(every)),
    )
    return Correlated(
        sums=_with_dark(gpu.to_host(sums), np.diff(start)),
        segments=gpu.to_host(segments).T,
        pixels=gpu.to_host(pixels) if keep_pixels else None,
    )


def _with_dark(sums: NDArray[np.float64], size: Index) -> NDArray[np.float64]:
    """Where a pixel saw no pair, its g2 - 1 is -1."""
    dark = size[:, None] - sums[..., 5]
    sums[..., 3] -= dark
    sums[..., 4] += dark
    return sums[..., :5]
