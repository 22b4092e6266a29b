"""Photon correlation as the definitions have it, in double precision, frame by frame and pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Index = NDArray[np.int64]


def lag_list(frames: int) -> list[tuple[int, int]]:
    """(level, distance): 1 to 4 of level 0, then 5 to 8 of each level while there is a pair."""
    found = [(0, distance) for distance in (1, 2, 3, 4) if distance < frames]
    level = 0
    while True:
        for distance in (5, 6, 7, 8):
            if distance << level >= frames >> level << level:
                return found
            found.append((level, distance))
        level += 1


@dataclass(frozen=True)
class MultiTau:
    delays: Index
    g2: Float
    """G2, IP and IF: (lags, 3, pixels)."""


def multitau(frames: Float) -> MultiTau:
    """Of (frames, pixels)."""
    levels = [frames]
    found, delays = [], []
    for level, distance in lag_list(len(frames)):
        while level >= len(levels):
            below = levels[-1][: len(levels[-1]) // 2 * 2]
            levels.append(below[0::2] + below[1::2])
        series, size = levels[level], 2.0**level
        terms = len(series) - distance
        earlier, later = series[:terms], series[distance:]
        found.append(np.stack([(earlier * later).mean(0) / size**2, earlier.mean(0) / size, later.mean(0) / size]))
        delays.append(distance << level)
    return MultiTau(np.array(delays), np.stack(found))


@dataclass(frozen=True)
class G2:
    """Everything is (lags, dynamic bins)."""

    g2: Float
    err: Float
    weighted: Float


def g2_of(pixels: Float, dynamic: Index, static: Index) -> G2:
    """From G2, IP and IF, (lags, 3, pixels), and the bins of the pixels."""
    columns: list[list[Float]] = [[], [], []]
    for number in range(1, int(dynamic.max()) + 1):
        inside = dynamic == number
        quotients, sizes = [], []
        for part in np.unique(static[inside]):
            both, earlier, later = pixels[:, :, static == part].mean(axis=2).T
            quotients.append(both / (earlier * later))
            sizes.append(np.count_nonzero(static == part))
        both, earlier, later = pixels[:, :, inside].transpose(1, 0, 2)
        own = np.divide(both, earlier * later, out=np.zeros_like(both), where=both > 0)
        columns[0].append(np.mean(quotients, axis=0))
        columns[1].append(own.std(axis=1, ddof=1) / np.sqrt(inside.sum()))
        columns[2].append(np.average(quotients, axis=0, weights=sizes))
    return G2(*(np.stack(each, axis=1) for each in columns))


def two_time(frames: Float, part: Index) -> Float:
    """C2 of the (frames, pixels) of a dynamic bin, which are normalised over their parts."""
    values = frames.copy()
    for one in np.unique(part):
        means = values[:, part == one].mean(axis=1)
        means[means <= 0] = 1.0
        values[:, part == one] /= means[:, None]
    sums = values.sum(axis=1)
    sums[sums <= 0] = 1.0
    c2: Float = values.shape[1] * (values @ values.T) / np.outer(sums, sums)
    return c2


def segments(frames: Float, static: Index) -> Float:
    """Sums of the normalised frames of each segment over all frames, a mean over each static bin: (segments, bins)."""
    length = 1
    while len(frames) // length > 16:
        length *= 2
    count = len(frames) // length
    sums = frames[: count * length].reshape(count, length, -1).sum(axis=1) / len(frames)
    return np.stack([sums[:, static == one].mean(axis=1) for one in np.unique(static[static > 0])], axis=1)
