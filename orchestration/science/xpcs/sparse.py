"""Multi-tau correlation of photon events, pixel by pixel: nothing is done where no photon was.

The events of a pixel are a short list of times. Products at all lags of a level come from one walk over that list:
few events have another one within eight frames. From level to level pairs of frames are joined and the list gets
denser; at levels where many frames hold something, it is written out for the products.

One pixel after another adds to the sums of its unit, so that nothing of the size of pixels times lags is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ScanStillOpen
from orchestration.science.xpcs.dense import HISTORY
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.threads import in_threads, processors

_FAST = {"reassoc", "contract", "nsz", "arcp"}

_DENSE = 0.05
"""Events to a frame from which the list is written out."""

_BUCKET = 10
"""The logarithm, to the base of 2, of the pixels of a bucket."""

_SHORT = 8
"""Frames of a level up to which the list is always walked."""

_SUMMED = 256
"""Products that are summed in single precision, in eight parts, before the sum goes to one in double precision."""

Index = NDArray[np.int64]


@dataclass
class Train:
    """The events of some pixels, in the order of the pixels, then of time."""

    start: Index
    """(pixels + 1,): of each pixel's events."""
    time: NDArray[np.uint32]
    """Of each event, in (averaged) frames; ascending within a pixel, and equal where frames are averaged."""
    count: NDArray[np.uint16]
    """Of each event."""
    filled: Index
    """(pixels,): how far."""

    @classmethod
    def of(cls, sizes: Index) -> Train:
        """With room for so many events of each pixel."""
        start = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        return cls(start, np.empty(start[-1], np.uint32), np.empty(start[-1], np.uint16), start[:-1].copy())

    def add(self, pixel: NDArray[np.uint32], count: NDArray[np.generic], time: Index, rank: NDArray[np.int32]) -> None:
        """Take the next events; those of a pixel whose `rank` is negative, or of a negative `time`, are not wanted.

        Raises:
            ScanStillOpen: if a pixel has more events than were counted.
        """
        pieces, buckets = processors(), (len(self.filled) >> _BUCKET) + 1
        edges = np.linspace(0, len(pixel), pieces + 1).astype(np.int64)
        sizes = np.zeros((pieces, buckets), dtype=np.int64)
        in_threads(pieces, lambda low, high: _fill_buckets(low, high, edges, pixel, time, rank, sizes))
        # In a bucket, the events of a piece come behind those of the pieces before it.
        ends = np.cumsum(sizes.T.ravel()).reshape(buckets, pieces)
        starts, ends = ends.T - sizes, np.concatenate(([0], ends[:, -1]))
        sorted_events = (
            np.empty(ends[-1], dtype=np.int32),
            np.empty(ends[-1], dtype=np.uint32),
            np.empty(ends[-1], dtype=np.uint16),
        )
        in_threads(pieces, lambda low, high: _sort(low, high, edges, pixel, count, time, rank, starts, sorted_events))
        own = (self.time, self.count, self.filled, self.start)
        lost: list[int] = []
        in_threads(buckets, lambda low, high: lost.append(_append(ends[low], ends[high], sorted_events, own)))
        if any(lost):
            raise ScanStillOpen(f"there are {sum(lost)} more events than a moment ago", where="raw data")


@dataclass(frozen=True, kw_only=True)
class Correlated:
    """What the pixels of a train give."""

    sums: NDArray[np.float64]
    """(units, lags, 5): of G2, IP, IF, g2 - 1 and (g2 - 1)^2."""
    segments: NDArray[np.float64]
    """(segments, units): the frames of each segment, and the pixels of each unit, summed."""
    pixels: NDArray[np.float32] | None
    """(lags, 3, pixels): G2, IP and IF of each pixel, where they were asked for."""


def correlate(
    train: Train, scale: NDArray[np.float32], start: Index, lags: Lags, *, segment_level: int, keep_pixels: bool
) -> Correlated:
    """The correlation of the pixels of a train, which unit by unit begin at `start`; `scale` is that of each frame."""
    units = len(start) - 1
    sums = np.zeros((units, len(lags), 6), dtype=np.float64)
    segments = np.zeros((units, lags.frames >> segment_level), dtype=np.float64)
    pixels = np.zeros((len(lags), 3, len(train.filled) if keep_pixels else 0), dtype=np.float32)
    events, places = (train.start, train.time, train.count), (lags.frames, lags.level, lags.distance)

    def work(low: int, high: int) -> None:
        _correlate(low, high, events, scale, start, places, segment_level, sums, segments, pixels)

    in_threads(units, work)
    return Correlated(sums=sums[:, :, :5], segments=segments.T, pixels=pixels if keep_pixels else None)


# Events come in the order of frames, and the place of one is far from that of the next. They are sorted into buckets of
# neighbouring pixels first: what is then written to at a time fits a cache.


@numba.njit(cache=True, nogil=True)
def _fill_buckets(low, high, edges, pixel, time, rank, sizes):  # type: ignore[no-untyped-def]
    for piece in range(low, high):
        for i in range(edges[piece], edges[piece + 1]):
            place = rank[pixel[i]]
            if place >= 0 and time[i] >= 0:
                sizes[piece, place >> _BUCKET] += 1


@numba.njit(cache=True, nogil=True)
def _sort(low, high, edges, pixel, count, time, rank, next_one, found):  # type: ignore[no-untyped-def]
    places, times, counts = found
    for piece in range(low, high):
        for i in range(edges[piece], edges[piece + 1]):
            place = rank[pixel[i]]
            if place >= 0 and time[i] >= 0:
                at = next_one[piece, place >> _BUCKET]
                places[at], times[at], counts[at] = place, time[i], count[i]
                next_one[piece, place >> _BUCKET] = at + 1


@numba.njit(cache=True, nogil=True)
def _append(low, high, found, train):  # type: ignore[no-untyped-def]
    """How many events found no room."""
    places, times, counts = found
    time, count, filled, start = train
    lost = 0
    for i in range(low, high):
        at = filled[places[i]]
        if at < start[places[i] + 1]:
            time[at], count[at] = times[i], counts[i]
            filled[places[i]] = at + 1
        else:
            lost += 1
    return lost


@numba.njit(cache=True, nogil=True)
def _correlate(low, high, train, scale, start, lags, segment_level, sums, segments, pixels):  # type: ignore[no-untyped-def]
    for unit in range(low, high):
        first, last = start[unit], start[unit + 1]
        _correlate_unit(first, last, train, scale, lags, segment_level, sums[unit], segments[unit], pixels)


@numba.njit(cache=True, nogil=True)
def _correlate_unit(low, high, train, scale, lags, segment_level, sums, segments, pixels):  # type: ignore[no-untyped-def]
    first = train[0]
    longest = 0
    for p in range(low, high):
        longest = max(longest, first[p + 1] - first[p])
    time, value = np.empty(longest, np.int64), np.empty(longest, np.float32)
    series = np.zeros((2, lags[0] + HISTORY if longest > 0 else 0), np.float32)
    for p in range(low, high):
        left = _load(train, p, scale, time, value)
        _pixel(p, time, value, left, series, lags, segment_level, sums, segments, pixels)
    for lag in range(len(sums)):
        # Where a pixel saw no pair, its g2 - 1 is -1.
        dark = high - low - sums[lag, 5]
        sums[lag, 3] -= dark
        sums[lag, 4] += dark


@numba.njit(cache=True, nogil=True)
def _load(train, p, scale, time, value):  # type: ignore[no-untyped-def]
    """The events of one pixel, those of one (averaged) frame as one; how many."""
    first, times, counts = train
    left = 0
    for i in range(first[p], first[p + 1]):
        t = np.int64(times[i])
        if left > 0 and time[left - 1] == t:
            value[left - 1] += counts[i] * scale[t]
        else:
            time[left] = t
            value[left] = counts[i] * scale[t]
            left += 1
    return left


@numba.njit(cache=True, nogil=True)
def _pixel(p, time, value, left, series, lags, segment_level, sums, segments, pixels):  # type: ignore[no-untyped-def]
    """Level after level: as a list of events, and from where it gets dense, as a series of all frames."""
    frames, levels, distances = lags
    both, head, tail = np.empty(HISTORY + 1), np.empty(HISTORY + 1), np.empty(HISTORY + 1)
    whole = 0.0
    for i in range(left):
        whole += value[i]
    lag, level, dense = 0, 0, False
    while lag < len(levels) or level <= segment_level:
        size, row = frames >> level, series[level & 1]
        if not dense:
            while left > 0 and time[left - 1] >= size:  # it found no pair
                left -= 1
                whole -= value[left]
            if left == 0:
                return
            if size > _SHORT and left > _DENSE * size:
                dense = True
                _write_out(time, value, left, size, row)
        if dense:
            _series_ends(row, size, head, tail)
            _products(row, size, 1 if level == 0 else 5, both)
        else:
            _ends(time, value, left, size, head, tail)
            _walk(time, value, left, both)
        if level == segment_level:
            if dense:
                segments += row[HISTORY : HISTORY + size]
            else:
                for i in range(left):
                    segments[time[i]] += value[i]
        while lag < len(levels) and levels[lag] == level:
            far, width = distances[lag], float(1 << level)
            terms = size - far
            earlier, later = (whole - tail[far]) / (terms * width), (whole - head[far]) / (terms * width)
            product = both[far] / (terms * width * width)
            sums[lag, 1] += earlier
            sums[lag, 2] += later
            if product != 0.0:
                own = product / (earlier * later) - 1.0
                sums[lag, 0] += product
                sums[lag, 3] += own
                sums[lag, 4] += own * own
                sums[lag, 5] += 1.0
            if pixels.shape[2] > 0:
                pixels[lag, 0, p], pixels[lag, 1, p], pixels[lag, 2, p] = product, earlier, later
            lag += 1
        if dense:
            whole -= row[HISTORY + size - 1] if size % 2 else 0.0  # it found no pair
            _halve_series(row[HISTORY:], size // 2, series[1 - level & 1][HISTORY:])
        else:
            left = _halve(time, value, left)
        level += 1


@numba.njit(cache=True, nogil=True)
def _ends(time, value, left, size, head, tail):  # type: ignore[no-untyped-def]
    """The sums of the first and of the last 1 to 8 frames of a level."""
    for far in range(HISTORY + 1):
        head[far] = tail[far] = 0.0
    i = 0
    while i < left and time[i] < HISTORY:
        for far in range(time[i] + 1, HISTORY + 1):
            head[far] += value[i]
        i += 1
    i = left - 1
    while i >= 0 and time[i] >= size - HISTORY:
        for far in range(size - time[i], HISTORY + 1):
            tail[far] += value[i]
        i -= 1


@numba.njit(cache=True, nogil=True)
def _walk(time, value, left, both):  # type: ignore[no-untyped-def]
    """Products at distances 1 to 8: each event with those that follow soon."""
    for far in range(HISTORY + 1):
        both[far] = 0.0
    for i in range(left):
        now, here = time[i], np.float64(value[i])
        j = i + 1
        while j < left and time[j] - now <= HISTORY:
            both[time[j] - now] += here * value[j]
            j += 1


@numba.njit(cache=True, nogil=True)
def _halve(time, value, left):  # type: ignore[no-untyped-def]
    """Join pairs of frames; how many events there are then."""
    # What no processor can foresee is no branch here, but a choice of what is added.
    made, before, joined = -1, np.int64(-1), np.float32(0.0)
    for i in range(left):
        t = time[i] >> 1
        same = t == before
        made += 1 - same
        joined = value[i] + (joined if same else np.float32(0.0))
        time[made], value[made], before = t, joined, t
    return made + 1


# A series has as many zeros before its first frame as distances reach.


@numba.njit(cache=True, nogil=True)
def _write_out(time, value, left, size, series):  # type: ignore[no-untyped-def]
    for t in range(size + HISTORY):
        series[t] = 0.0
    for i in range(left):
        series[HISTORY + time[i]] = value[i]


@numba.njit(cache=True, nogil=True)
def _series_ends(series, size, head, tail):  # type: ignore[no-untyped-def]
    head[0] = tail[0] = 0.0
    for far in range(1, HISTORY + 1):
        inside = far <= size
        head[far] = head[far - 1] + (series[HISTORY + far - 1] if inside else 0.0)
        tail[far] = tail[far - 1] + (series[HISTORY + size - far] if inside else 0.0)


@numba.njit(cache=True, nogil=True)
def _products(series, size, nearest, both):  # type: ignore[no-untyped-def]
    later = series[HISTORY : HISTORY + size]
    for far in range(nearest, HISTORY + 1):
        earlier = series[HISTORY - far : HISTORY - far + size]
        whole = 0.0
        for first in range(0, size, _SUMMED):
            whole += _sum(later[first : first + _SUMMED], earlier[first : first + _SUMMED])
        both[far] = whole


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _sum(later, earlier):  # type: ignore[no-untyped-def]
    part = np.float32(0.0)
    for t in range(len(later)):
        part += later[t] * earlier[t]
    return np.float64(part)


@numba.njit(cache=True, nogil=True)
def _halve_series(series, size, joined):  # type: ignore[no-untyped-def]
    for t in range(size):
        joined[t] = series[2 * t] + series[2 * t + 1]
