"""The loops of the multi-tau correlation of photon events, for some pixels of a unit side by side.

At levels where few frames hold something, each pixel is a list of events. From where many do, the pixels of a group are
written out as series next to each other, so that all arithmetic is on vectors.

The inner loops are given whole arrays, one by one: to take one out of a tuple, or a part of one, for a few steps takes
longer than these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.dense import HISTORY
from orchestration.science.xpcs.lags import Lags

EventLists = tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint16]]
Sums = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]

LANES = 16
"""Pixels of a group: in single precision they fill a line of the caches."""

_DENSE = 0.06
"""Events to a pixel and frame from which a group is written out."""

_SHORT, _LONG = 8, 1 << 16
"""Frames of a level up to which it is never, and of those that are written out at the most."""

_SUMMED = 256
"""Products that are summed in single precision, before the sum goes to one in double precision."""

_FAST = {"reassoc", "contract", "nsz", "arcp"}

_BOTH, _HEAD, _TAIL = 0, HISTORY + 1, 2 * (HISTORY + 1)
"""Of the parts of a group at one level the first rows: sums of products, of the first and of the last frames. Behind
each comes one for each distance.
"""


@compiled()
def _at(row, lane):  # type: ignore[no-untyped-def]
    """Where a row of a group has a pixel. Numbers without a sign cannot count from the end: nothing is asked first."""
    return np.uint64(row) * np.uint64(LANES) + np.uint64(lane)


@dataclass(frozen=True)
class Room:
    """What one thread computes in."""

    lists: tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]
    """Time and value of the events of a group, pixel after pixel; where those of each pixel begin; how many it has."""
    whole: NDArray[np.float64]
    """(LANES,): the sum over all frames that find a pair."""
    series: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    """A group that is written out, (rows * LANES,), and the next level of it; and sums of products, (4 * LANES,)."""
    parts: NDArray[np.float64]
    """See `_BOTH`."""

    @classmethod
    def of(cls, frames: int, first: NDArray[np.int64]) -> Room:
        """For so many frames, and pixels whose events begin at `first`."""
        most = int((first[LANES:] - first[:-LANES]).max()) if len(first) > LANES else int(first[-1])
        rows = min(frames, _LONG) if frames > _SHORT else 0
        series, halved = ((2 * HISTORY + size) * LANES for size in (rows, rows // 2))
        return cls(
            lists=(np.empty(most, np.int64), np.empty(most, np.float32), np.empty(LANES, int), np.empty(LANES, int)),
            whole=np.empty(LANES),
            series=(np.zeros(series, np.float32), np.zeros(halved, np.float32), np.empty(4 * LANES, np.float32)),
            parts=np.empty(3 * (HISTORY + 1) * LANES),
        )


def correlate(
    low: int,
    high: int,
    train: EventLists,
    scale: NDArray[np.float32],
    start: NDArray[np.int64],
    lags: Lags,
    *,
    segment_level: int,
    found: Sums,
) -> None:
    """Units `low` to before `high`: see `sparse.correlate`, which also says what the other arrays hold.

    Args:
        train: of each pixel where its events begin, and of each event its time and its count.
        found: what it adds to: sums, segments, and values of single pixels.
    """
    width = 1.0 * (1 << lags.level)
    shares = 1.0 / (lags.terms * width)
    room = Room.of(lags.frames, train[0][start[low] : start[high] + 1] - train[0][start[low]])
    scheme = (lags.frames, lags.level, lags.distance, np.stack([shares, shares / width], axis=1))
    _units(
        low, high, train, scale, start, scheme, segment_level, found, room.lists, room.whole, room.series, room.parts
    )


@compiled()
def _units(low, high, train, scale, start, scheme, segment_level, found, lists, whole, series, parts):  # type: ignore[no-untyped-def]
    (first, times, counts), (time, value, begin, left) = train, lists
    sums, segments, pixels = found
    for unit in range(low, high):
        for p in range(start[unit], start[unit + 1], LANES):
            count = min(start[unit + 1] - p, LANES)
            if first[p + count] > first[p]:
                _load(p, count, first, times, counts, scale, time, value, begin, left, whole)
                added = sums[unit], segments[unit], pixels
                _group(p, count, lists, whole, series, parts, scheme, segment_level, added)


@compiled()
def _load(p, count, first, times, counts, scale, time, value, begin, left, whole):  # type: ignore[no-untyped-def]
    """The events of a group, those of one (averaged) frame as one; a lane without a pixel has none."""
    made = 0
    for lane in range(LANES):
        begin[lane], before, total = made, np.int64(-1), 0.0
        if lane < count:
            for i in range(first[p + lane], first[p + lane + 1]):
                t = np.int64(times[i])
                here = counts[i] * scale[t]
                total += here
                if t == before:
                    value[made - 1] += here
                else:
                    time[made], value[made] = t, here
                    made += 1
                before = t
        left[lane], whole[lane] = made - begin[lane], total


@compiled()
def _group(p, count, lists, whole, series, parts, scheme, segment_level, added):  # type: ignore[no-untyped-def]
    """Level after level."""
    (time, value, begin, left), (here, spare, products) = lists, series
    frames, levels, distances, shares = scheme
    sums, segments, pixels = added
    lag, level, dense = 0, 0, False
    while lag < len(levels) or level <= segment_level:
        size = frames >> level
        if not dense:
            events = _cut(size, time, value, begin, left, whole)
            if events == 0:
                return
            if _SHORT < size <= _LONG and events > _DENSE * LANES * size:
                dense = True
                _write_out(size, time, value, begin, left, here)
        if level == segment_level:
            if dense:
                _series_segments(size, here, segments)
            else:
                _segments(time, value, begin, left, segments)
        if dense:
            _series_ends(size, here, parts)
            _series_products(size, level == 0, here, products, parts)
        else:
            _walk(size, time, value, begin, left, parts)
        while lag < len(levels) and levels[lag] == level:
            _add(distances[lag], shares[lag, 0], shares[lag, 1], whole, parts, sums[lag])
            if pixels.shape[2] > 0:
                _keep(p, count, distances[lag], shares[lag, 0], shares[lag, 1], whole, parts, pixels[lag])
            lag += 1
        if dense:
            _halve_series(size, here, spare, whole)
            here, spare = spare, here
        level += 1


@compiled()
def _cut(size, time, value, begin, left, whole):  # type: ignore[no-untyped-def]
    """Drop what found no pair, behind the last frame; how many events there are."""
    events = 0
    for lane in range(LANES):
        last = begin[lane] + left[lane] - 1
        while left[lane] > 0 and time[last] >= size:
            whole[lane] -= value[last]
            last -= 1
            left[lane] -= 1
        events += left[lane]
    return events


@compiled()
def _segments(time, value, begin, left, segments):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        for i in range(begin[lane], begin[lane] + left[lane]):
            segments[time[i]] += value[i]


@compiled()
def _walk(size, time, value, begin, left, parts):  # type: ignore[no-untyped-def]
    """Each event with those that follow soon; then pairs of frames are joined, for the next level."""
    for i in range(len(parts)):
        parts[i] = 0.0
    for lane in range(LANES):
        end = np.uint64(begin[lane] + left[lane])
        # What no processor can foresee is no branch here, but a choice of what is added.
        made, before, joined = np.uint64(begin[lane] - 1), np.int64(-1), np.float32(0.0)
        for i in range(np.uint64(begin[lane]), end):
            now, here = time[i], value[i]
            j = i + np.uint64(1)
            while j < end and time[j] - now <= HISTORY:
                parts[_at(_BOTH + time[j] - now, lane)] += np.float64(here) * value[j]
                j += np.uint64(1)
            if now < HISTORY:
                parts[_at(_HEAD + now + 1, lane)] += here
            if now >= size - HISTORY:
                parts[_at(_TAIL + size - now, lane)] += here
            t = now >> 1
            same = t == before
            made += np.uint64(0) if same else np.uint64(1)
            joined = here + (joined if same else np.float32(0.0))
            time[made], value[made], before = t, joined, t
        left[lane] = np.int64(made) + 1 - begin[lane]
    for far in range(1, HISTORY + 1):
        for lane in range(LANES):
            parts[_at(_HEAD + far, lane)] += parts[_at(_HEAD + far - 1, lane)]
            parts[_at(_TAIL + far, lane)] += parts[_at(_TAIL + far - 1, lane)]


# A series has as many zeros before its first frame, and behind its last, as distances reach.


@compiled()
def _write_out(size, time, value, begin, left, series):  # type: ignore[no-untyped-def]
    for i in range((HISTORY + size + HISTORY) * LANES):
        series[i] = 0.0
    for lane in range(LANES):
        for i in range(np.uint64(begin[lane]), np.uint64(begin[lane] + left[lane])):
            series[_at(HISTORY + time[i], lane)] = value[i]


@compiled(fastmath=_FAST)
def _series_segments(size, series, segments):  # type: ignore[no-untyped-def]
    for t in range(size):
        whole = np.float32(0.0)
        for lane in range(LANES):
            whole += series[_at(HISTORY + t, lane)]
        segments[t] += whole


@compiled()
def _series_ends(size, series, parts):  # type: ignore[no-untyped-def]
    for lane in range(LANES):
        parts[_at(_HEAD, lane)] = parts[_at(_TAIL, lane)] = 0.0
    for far in range(1, HISTORY + 1):
        for lane in range(LANES):
            first, last = series[_at(HISTORY + far - 1, lane)], series[_at(HISTORY + size - far, lane)]
            parts[_at(_HEAD + far, lane)] = parts[_at(_HEAD + far - 1, lane)] + first
            parts[_at(_TAIL + far, lane)] = parts[_at(_TAIL + far - 1, lane)] + last


@compiled()
def _series_products(size, near, series, sums, parts):  # type: ignore[no-untyped-def]
    """At distances 5 to 8, and 1 to 4 where these are wanted."""
    for i in range(_HEAD * LANES):
        parts[i] = 0.0
    for first in range(HISTORY, HISTORY + size, _SUMMED):
        stop = min(first + _SUMMED, HISTORY + size)
        if near:
            _products(first, stop, 1, series, sums, parts)
        _products(first, stop, 5, series, sums, parts)


@compiled(fastmath=_FAST)
def _products(first, stop, nearest, series, sums, parts):  # type: ignore[no-untyped-def]
    """At four distances, for four frames at a time: each value that is loaded serves several products."""
    for k in range(4):
        for p in range(LANES):
            sums[_at(k, p)] = 0.0
    for t in range(first, stop, 4):
        at = t - nearest
        for p in range(LANES):
            v0, v1 = series[_at(t, p)], series[_at(t + 1, p)]
            v2, v3 = series[_at(t + 2, p)], series[_at(t + 3, p)]
            a0, a1, a2, a3 = series[_at(at, p)], series[_at(at + 1, p)], series[_at(at + 2, p)], series[_at(at + 3, p)]
            b1, b2, b3 = series[_at(at - 1, p)], series[_at(at - 2, p)], series[_at(at - 3, p)]
            sums[_at(0, p)] += v0 * a0 + v1 * a1 + v2 * a2 + v3 * a3
            sums[_at(1, p)] += v0 * b1 + v1 * a0 + v2 * a1 + v3 * a2
            sums[_at(2, p)] += v0 * b2 + v1 * b1 + v2 * a0 + v3 * a1
            sums[_at(3, p)] += v0 * b3 + v1 * b2 + v2 * b1 + v3 * a0
    for k in range(4):
        for p in range(LANES):
            parts[_at(_BOTH + nearest + k, p)] += sums[_at(k, p)]


@compiled()
def _halve_series(size, series, joined, whole):  # type: ignore[no-untyped-def]
    """Join pairs of frames; the last frame is dropped where it has none."""
    for t in range(size // 2):
        for p in range(len(whole)):  # LANES would be unrolled before it is seen to be a vector
            both = series[_at(HISTORY + 2 * t, p)] + series[_at(HISTORY + 2 * t + 1, p)]
            joined[_at(HISTORY + t, p)] = both
    for t in range(size // 2, size // 2 + HISTORY):
        for p in range(LANES):
            joined[_at(HISTORY + t, p)] = 0.0
    if size % 2:
        for p in range(LANES):
            whole[p] -= series[_at(HISTORY + size - 1, p)]


@compiled(fastmath=_FAST, error_model="numpy")
def _add(far, share, product_share, whole, parts, sums):  # type: ignore[no-untyped-def]
    """What the pixels of a group add to the sums of their unit at one lag."""
    both = before = after = own_sum = squares = seen = 0.0
    for p in range(LANES):
        product = parts[_at(_BOTH + far, p)] * product_share
        earlier = (whole[p] - parts[_at(_TAIL + far, p)]) * share
        later = (whole[p] - parts[_at(_HEAD + far, p)]) * share
        pair = 1.0 if product != 0.0 else 0.0
        own = (product / (earlier * later if product != 0.0 else 1.0) - 1.0) * pair
        both += product
        before += earlier
        after += later
        own_sum += own
        squares += own * own
        seen += pair
    sums[0] += both
    sums[1] += before
    sums[2] += after
    sums[3] += own_sum
    sums[4] += squares
    sums[5] += seen


@compiled()
def _keep(p, count, far, share, product_share, whole, parts, pixels):  # type: ignore[no-untyped-def]
    """G2, IP and IF of single pixels."""
    for lane in range(count):
        pixels[0, p + lane] = parts[_at(_BOTH + far, lane)] * product_share
        pixels[1, p + lane] = (whole[lane] - parts[_at(_TAIL + far, lane)]) * share
        pixels[2, p + lane] = (whole[lane] - parts[_at(_HEAD + far, lane)]) * share
