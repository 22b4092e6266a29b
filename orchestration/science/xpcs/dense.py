"""Multi-tau correlation of whole frames, which come in blocks.

The time series of neighbouring pixels are correlated side by side, so that nothing has to be transposed and all
arithmetic is on vectors. All that is kept of a pixel is its sums by lag and the last eight values of each level: memory
does not grow with the number of frames.

The means of the earlier and the later factors, IP and IF, are not summed lag by lag: they are the mean of the level
without its last, or first, few frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.panels import WIDTH, Panels
from orchestration.science.xpcs.threads import in_threads

HISTORY = 8
"""So many values of a level are kept, for the longest distance."""

_SHORT = 32
"""Values that are summed in single precision, before the sum goes to one in double precision. A constant lets the
compiler see that no index is negative: with a variable in its place it would not use vectors.
"""

_FAST = {"reassoc", "contract", "nsz", "arcp"}
"""What the compiler may do to sums of products: the values are finite, and each sum is short."""

Index = NDArray[np.int64]


@dataclass
class Series:
    """What is known of the time series of the pixels in P panels, after the frames so far."""

    lags: Lags
    panels: Panels
    segment_level: int
    """The level of which all values are kept."""
    seen: int
    """Frames so far."""
    g2: NDArray[np.float64]
    """(P, lags, WIDTH): sums of products, in units of the levels."""
    head: NDArray[np.float32]
    """(P, lags, WIDTH): sums of the first values of the levels, as many as the lag's distance."""
    last: NDArray[np.float32]
    """(P, levels, HISTORY, WIDTH): the last values of each level."""
    carry: NDArray[np.float32]
    """(P, levels, WIDTH): the value that waits for its pair."""
    total: NDArray[np.float64]
    """(P, WIDTH): sums of all frames."""
    segments: NDArray[np.float32]
    """(P, segments, WIDTH): all values of the segment level."""

    @classmethod
    def of(cls, panels: Panels, lags: Lags, *, segment_level: int) -> Series:
        levels = max(lags.levels, segment_level + 1)
        places = 4 * levels + 4  # as if each level had all its lags: the kernels need not ask
        count = len(panels)
        return cls(
            lags=lags,
            panels=panels,
            segment_level=segment_level,
            seen=0,
            g2=np.zeros((count, places, WIDTH), dtype=np.float64),
            head=np.zeros((count, places, WIDTH), dtype=np.float32),
            last=np.zeros((count, levels, HISTORY, WIDTH), dtype=np.float32),
            carry=np.zeros((count, levels, WIDTH), dtype=np.float32),
            total=np.zeros((count, WIDTH), dtype=np.float64),
            segments=np.zeros((count, lags.frames >> segment_level, WIDTH), dtype=np.float32),
        )

    @staticmethod
    def bytes_per_pixel(lags: Lags, *, segment_level: int) -> int:
        levels = max(lags.levels, segment_level + 1)
        return 12 * (4 * levels + 4) + 4 * levels * (HISTORY + 1) + 8 + 4 * (lags.frames >> segment_level)

    def add(self, frames: NDArray[np.generic], scale: NDArray[np.float32]) -> None:
        """Take the next frames.

        Args:
            frames: (count * average, rows * columns), of any type; finite.
            scale: (count,): what each sum of `average` frames is multiplied by.
        """
        average = len(frames) // len(scale)
        state = (self.last, self.carry, self.total, self.head, self.g2, self.segments)

        def add(low: int, high: int) -> None:
            sizes = HISTORY + len(scale), HISTORY + len(scale) // 2 + 1, HISTORY
            room = tuple(np.empty((size, WIDTH), dtype=np.float32) for size in sizes)
            pixel, level = self.panels.pixel, self.segment_level
            _add_panels(low, high, frames, average, pixel, scale, self.seen, state, level, room)

        in_threads(len(self.panels), add)
        self.seen += len(scale)

    def sums(self, unit: Index, units: int) -> NDArray[np.float64]:
        """Sums over units of pixels, (units, lags, 5): of G2, IP, IF, g2 - 1 and (g2 - 1)^2.

        Args:
            unit: (pixels,): that of each of the wanted pixels; -1 for none.
        """
        every = np.full(len(self.panels.pixel), -1, dtype=np.int64)
        every[self.panels.place] = unit
        found: dict[int, NDArray[np.float64]] = {}

        def add(low: int, high: int) -> None:
            found[low] = np.zeros((units, len(self.lags), 5))
            _sums(low, high, every, self._parts, np.empty((3, WIDTH)), found[low])

        in_threads(len(self.panels), add, shares=1)
        sums: NDArray[np.float64] = np.sum([found[low] for low in sorted(found)], axis=0)
        return sums

    def pixels(self, lag: int) -> NDArray[np.float32]:
        """G2, IP and IF of the wanted pixels at one lag, (3, pixels)."""
        out = np.empty((3, len(self.panels), WIDTH), dtype=np.float32)
        _pixels(lag, self._parts, np.empty((3, WIDTH)), out)
        return out.reshape(3, -1)[:, self.panels.place]

    def segment_sums(self) -> NDArray[np.float32]:
        """Of each wanted pixel the sums of the frames of each segment, (segments, pixels)."""
        panel, lane = np.divmod(self.panels.place, WIDTH)
        found: NDArray[np.float32] = self.segments.transpose(1, 0, 2)[:, panel, lane]
        return found

    @property
    def _parts(self) -> tuple[object, ...]:
        lags = self.lags
        return lags.frames, lags.level, lags.distance, self.last, self.carry, self.total, self.head, self.g2


@compiled()
def _place(level, distance):  # type: ignore[no-untyped-def]
    """Where a lag is: those of 1 to 8 of level 0, then 5 to 8 of each level."""
    return distance - 1 if level == 0 else 4 * level + distance - 1


@compiled()
def _add_panels(low, high, frames, average, pixel, scale, seen, state, segment_level, room):  # type: ignore[no-untyped-def]
    for panel in range(low, high):
        _gather(frames, average, pixel[panel * WIDTH : (panel + 1) * WIDTH], scale, room[0])
        _add_panel(panel, len(scale), seen, state, segment_level, room)


@compiled()
def _add_panel(panel, left, seen, state, segment_level, room):  # type: ignore[no-untyped-def]
    last, carry, total, head, g2, segments = state
    x, spare, part = room
    _total(x, left, part[0], total[panel])
    for level in range(last.shape[1]):
        if left == 0:
            break
        before = seen >> level
        _copy(last[panel, level], 0, x, 0, HISTORY)
        _products(x, left, level, part, g2[panel])
        if before < HISTORY:
            _heads(x, left, level, before, head[panel])
        if level == segment_level:
            _copy(x, HISTORY, segments[panel], before, min(left, segments.shape[1] - before))
        _copy(x, left, last[panel, level], 0, HISTORY)
        left = _halve(x, left, carry[panel, level], before & 1, spare)
        x, spare = spare, x


@compiled()
def _copy(source, first, target, start, count):  # type: ignore[no-untyped-def]
    for t in range(count):
        for p in range(WIDTH):
            target[start + t, p] = source[first + t, p]


@compiled()
def _clear(sums):  # type: ignore[no-untyped-def]
    for i in range(sums.shape[0]):
        for p in range(WIDTH):
            sums[i, p] = 0.0


@compiled(fastmath=_FAST)
def _gather(frames, average, pixel, scale, x):  # type: ignore[no-untyped-def]
    """The values of a panel, behind its history: sums of `average` frames, times their scale."""
    first = pixel[0]
    together = pixel[WIDTH - 1] - first == WIDTH - 1
    for t in range(len(scale)):
        out, factor = x[HISTORY + t], scale[t]
        if together:
            row = frames[t * average, first : first + WIDTH]
            for p in range(WIDTH):
                out[p] = np.float32(row[p])
        else:
            row = frames[t * average]
            for p in range(WIDTH):
                out[p] = np.float32(row[pixel[p]])
        for step in range(1, average):
            row = frames[t * average + step]
            for p in range(WIDTH):
                out[p] += np.float32(row[pixel[p]])
        for p in range(WIDTH):
            out[p] *= factor


@compiled(fastmath=_FAST)
def _total(x, count, part, total):  # type: ignore[no-untyped-def]
    for first in range(0, count, _SHORT):
        for p in range(WIDTH):
            part[p] = 0.0
        for t in range(first, min(first + _SHORT, count)):
            row = x[HISTORY + t]
            for p in range(WIDTH):
                part[p] += row[p]
        for p in range(WIDTH):
            total[p] += part[p]


@compiled()
def _products(x, count, level, part, g2):  # type: ignore[no-untyped-def]
    """Add the products of the last `count` values of a level with those 1 (above level 0: 5) to 8 before each."""
    nearest = 1 if level == 0 else 5
    for first in range(0, count, _SHORT):
        _clear(part)
        if count - first >= _SHORT:
            if level == 0:
                _near(x[first:], part)
            _far(x[first:], part)
        else:
            _few(x[first:], count - first, nearest, part)
        for distance in range(nearest, HISTORY + 1):
            out = g2[_place(level, distance)]
            for p in range(WIDTH):
                out[p] += part[distance - 1, p]


# In the next two, four frames are taken at a time: each value that is loaded serves several products, and each sum is
# loaded and stored once for four.


@compiled(fastmath=_FAST)
def _near(x, part):  # type: ignore[no-untyped-def]
    """Distances 1 to 4."""
    for t in range(HISTORY, HISTORY + _SHORT, 4):
        for p in range(WIDTH):
            v0, v1, v2, v3 = x[t, p], x[t + 1, p], x[t + 2, p], x[t + 3, p]
            m1, m2, m3, m4 = x[t - 1, p], x[t - 2, p], x[t - 3, p], x[t - 4, p]
            part[0, p] += v0 * m1 + v1 * v0 + v2 * v1 + v3 * v2
            part[1, p] += v0 * m2 + v1 * m1 + v2 * v0 + v3 * v1
            part[2, p] += v0 * m3 + v1 * m2 + v2 * m1 + v3 * v0
            part[3, p] += v0 * m4 + v1 * m3 + v2 * m2 + v3 * m1


@compiled(fastmath=_FAST)
def _far(x, part):  # type: ignore[no-untyped-def]
    """Distances 5 to 8."""
    for t in range(HISTORY, HISTORY + _SHORT, 4):
        for p in range(WIDTH):
            v0, v1, v2, v3 = x[t, p], x[t + 1, p], x[t + 2, p], x[t + 3, p]
            m2, m3, m4, m5 = x[t - 2, p], x[t - 3, p], x[t - 4, p], x[t - 5, p]
            m6, m7, m8 = x[t - 6, p], x[t - 7, p], x[t - 8, p]
            part[4, p] += v0 * m5 + v1 * m4 + v2 * m3 + v3 * m2
            part[5, p] += v0 * m6 + v1 * m5 + v2 * m4 + v3 * m3
            part[6, p] += v0 * m7 + v1 * m6 + v2 * m5 + v3 * m4
            part[7, p] += v0 * m8 + v1 * m7 + v2 * m6 + v3 * m5


@compiled(fastmath=_FAST)
def _few(x, count, nearest, part):  # type: ignore[no-untyped-def]
    for t in range(count):
        later = x[HISTORY + t]
        for distance in range(nearest, HISTORY + 1):
            earlier, out = x[HISTORY + t - distance], part[distance - 1]
            for p in range(WIDTH):
                out[p] += earlier[p] * later[p]


@compiled()
def _heads(x, count, level, before, head):  # type: ignore[no-untyped-def]
    """Add what is among the first values of a level, of which `before` have been, to the sums of the first 1 to 8."""
    nearest = 1 if level == 0 else 5
    for t in range(min(count, HISTORY - before)):
        for distance in range(max(nearest, before + t + 1), HISTORY + 1):
            row = head[_place(level, distance)]
            for p in range(WIDTH):
                row[p] += x[HISTORY + t, p]


@compiled()
def _halve(x, count, carry, odd, out):  # type: ignore[no-untyped-def]
    """The next level's new values, behind HISTORY places of `out`; how many.

    Where an `odd` number of values came before, the first pairs with `carry`; what is left waits there.
    """
    made = (count + odd) // 2
    for i in range(made):
        first = HISTORY + 2 * i - odd
        later, row = x[first + 1], out[HISTORY + i]
        earlier = carry if i == 0 and odd == 1 else x[first]
        for p in range(WIDTH):
            row[p] = earlier[p] + later[p]
    if (count + odd) % 2 == 1:
        for p in range(WIDTH):
            carry[p] = x[HISTORY + count - 1, p]
    return made


@compiled()
def _values(panel, lag, parts, found):  # type: ignore[no-untyped-def]
    """G2, IP and IF of the pixels of a panel at one lag, (3, WIDTH)."""
    frames, level, distance, last, carry, total, head, g2 = parts
    at, far = level[lag], distance[lag]
    terms, size = (frames >> at) - far, float(1 << at)
    where = _place(at, far)
    for p in range(WIDTH):
        found[0, p] = g2[panel, where, p] / (terms * size * size)
        found[1, p] = total[panel, p]
    for below in range(at):
        if (frames >> below) & 1:
            for p in range(WIDTH):
                found[1, p] -= carry[panel, below, p]  # it found no pair
    for p in range(WIDTH):
        found[2, p] = (found[1, p] - head[panel, where, p]) / (terms * size)
    for k in range(HISTORY - far, HISTORY):
        for p in range(WIDTH):
            found[1, p] -= last[panel, at, k, p]
    for p in range(WIDTH):
        found[1, p] /= terms * size


@compiled()
def _sums(low, high, units, parts, found, sums):  # type: ignore[no-untyped-def]
    for panel in range(low, high):
        for lag in range(sums.shape[1]):
            _values(panel, lag, parts, found)
            for p in range(WIDTH):
                unit = units[panel * WIDTH + p]
                if unit >= 0:
                    both, earlier, later = found[0, p], found[1, p], found[2, p]
                    # A pixel that saw nothing counts as boost_corr counts it: its g2 is 0.
                    own = (both / (earlier * later) if both != 0.0 else 0.0) - 1.0
                    sums[unit, lag, 0] += both
                    sums[unit, lag, 1] += earlier
                    sums[unit, lag, 2] += later
                    sums[unit, lag, 3] += own
                    sums[unit, lag, 4] += own * own


@compiled()
def _pixels(lag, parts, found, out):  # type: ignore[no-untyped-def]
    for panel in range(out.shape[1]):
        _values(panel, lag, parts, found)
        for k in range(3):
            for p in range(WIDTH):
                out[k, panel, p] = found[k, p]
