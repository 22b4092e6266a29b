"""Two-time correlation C2(t1, t2) of one dynamic bin: the degree to which the speckles of two moments are alike.

With the values of each frame divided by their mean over their static (or the dynamic) bin, and S the sum of a frame
over the n pixels of the bin::

    C2(t1, t2) = n sum_p I(p, t1) I(p, t2) / (S(t1) S(t2))

(M. Sutton et al., Opt. Express 11 (2003) 2268). Only the part t1 <= t2 is computed and stored, in strips of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.threads import in_threads

SEGMENTS = 5
"""Into so many equal parts are the frames divided for g2 as a function of age."""

_PANEL = 512
"""Rows of a panel of products: what is below the diagonal is left out panel by panel."""

_ROWS = 64
"""Frames of which the values are read, multiplied and written at a time."""

_COLUMN_BYTES = 2**28
"""Of the frames of a bin that are in memory at a time."""

PAIR_COST = 24.0
"""A product of two events costs as much as so many in a product of matrices."""

Float32 = NDArray[np.float32]
Index = NDArray[np.int64]


class Bin(Protocol):
    """The normalised frames of the pixels of a bin, of which C2 is a plain product."""

    @property
    def frames(self) -> int: ...

    def fill(self, first: int, out: Float32) -> None:
        """Put rows `first` and on of C2 into `out`, (rows, frames); what is below the diagonal is left open."""


def strips(series: Bin, height: int) -> Iterator[tuple[int, Float32]]:
    """C2 in strips of rows: the first row of each, and the strip, (rows, frames)."""
    for first in range(0, series.frames, height):
        out = np.empty((min(height, series.frames - first), series.frames), dtype=np.float32)
        series.fill(first, out)
        for row in range(len(out)):
            out[row, : first + row] = 0.0
        yield first, out


def frames_cost(frames: int, pixels: int) -> float:
    """Of a product of whole frames, in the unit in which a pair of events costs PAIR_COST."""
    return 0.5 * frames**2 * pixels


@dataclass(frozen=True)
class WholeFrames:
    """Frames that are stored whole, perhaps on disk."""

    values: NDArray[np.generic]
    """(frames, pixels)"""
    part: Index
    """(pixels,): the part, from 0, whose mean divides the values of a pixel."""
    factor: Float32
    """(frames, parts): what the values are multiplied by."""

    @classmethod
    def of(cls, values: NDArray[np.generic], part: Index) -> WholeFrames:
        size = np.bincount(part).astype(np.float64)
        sums = np.zeros((len(values), len(size)))
        for some in columns(values):
            chosen = np.zeros((some.stop - some.start, len(size)))
            chosen[np.arange(len(chosen)), part[some]] = 1.0
            _by_rows(len(values), partial(_add_sums, values[:, some], chosen, sums))
        return cls(values, part, _factors(sums, size))

    @property
    def frames(self) -> int:
        return len(self.values)

    def fill(self, first: int, out: Float32) -> None:
        for some in columns(self.values):
            whole = self._scaled(first, some)
            in_threads(-(-len(out) // _PANEL), partial(_fill_panels, whole, out[:, first:], some.start == 0))

    def _scaled(self, first: int, some: slice) -> Float32:
        """Some columns of the normalised frames from `first` on."""
        values, factor, part = self.values[first:, some], self.factor[first:], self.part[some]
        scaled = np.empty(values.shape, dtype=np.float32)

        def multiply(rows: slice) -> None:
            np.multiply(values[rows], factor[rows][:, part], out=scaled[rows], dtype=np.float32, casting="same_kind")

        _by_rows(len(values), multiply)
        return scaled


@dataclass(frozen=True)
class PhotonEvents:
    """Events in the order of frames; each array is (events,)."""

    frames: int
    time: Index
    pixel: Index
    """From 0, in the bin."""
    value: Float32
    of_frame: Index
    """(frames + 1,): where the events of each frame begin."""
    of_pixel: Index
    """(pixels + 1,): where those of each pixel begin, in their other order."""
    order: Index
    """That other order."""
    place: Index
    """Of each event in it."""

    @classmethod
    def of(cls, frames: int, time: Index, pixel: Index, count: Float32, part: Index) -> PhotonEvents:
        size = np.bincount(part).astype(np.float64)
        cell = time * len(size) + part[pixel]
        sums = np.bincount(cell, weights=count, minlength=frames * len(size)).astype(np.float64)
        factor = _factors(sums.reshape(frames, len(size)), size)
        order = np.argsort(pixel, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return cls(
            frames=frames,
            time=time,
            pixel=pixel,
            value=np.multiply(count, factor[time, part[pixel]], dtype=np.float32),
            of_frame=np.searchsorted(time, np.arange(frames + 1)).astype(np.int64),
            of_pixel=np.searchsorted(pixel[order], np.arange(len(part) + 1)).astype(np.int64),
            order=order,
            place=place,
        )

    def fill(self, first: int, out: Float32) -> None:
        times, values = self.time[self.order], self.value[self.order]

        def work(low: int, high: int) -> None:
            out[low:high] = 0.0
            frames = self.of_frame[first + low : first + high + 1]
            _add_pairs(frames, self.pixel, self.value, self.of_pixel, times, values, self.place, out[low:high])

        in_threads(len(out), work)


def pairs(pixel: Index) -> float:
    """How many pairs of events there are at single pixels."""
    counts = np.bincount(pixel).astype(np.float64)
    return float((counts * (counts + 1)).sum() / 2)


def _factors(sums: NDArray[np.float64], size: NDArray[np.float64]) -> Float32:
    """From the sums of each frame over its parts; a mean or a sum that is not above 0 counts as 1."""
    means = sums / size
    # When each part has been divided by its mean, its sum is the number of its pixels.
    total = np.where(means > 0, size, sums).sum(axis=1)
    means[means <= 0] = 1.0
    total[total <= 0] = 1.0
    factors: Float32 = (np.sqrt(size.sum()) / (means * total[:, None])).astype(np.float32)
    return factors


def columns(values: NDArray[np.generic]) -> list[slice]:
    """Stretches of pixels whose values, in single precision, fit some memory."""
    width = max(1, _COLUMN_BYTES // (4 * len(values)))
    return [slice(low, min(low + width, values.shape[1])) for low in range(0, values.shape[1], width)]


def _by_rows(count: int, work: Callable[[slice], None]) -> None:
    """Rows, as many at a time as stay in a cache; numpy lets other threads go on."""

    def some(low: int, high: int) -> None:
        for first in range(low * _ROWS, min(high * _ROWS, count), _ROWS):
            work(slice(first, min(first + _ROWS, high * _ROWS, count)))

    in_threads(-(-count // _ROWS), some)


def _add_sums(values: NDArray[np.generic], chosen: NDArray[np.float64], sums: NDArray[np.float64], rows: slice) -> None:
    sums[rows] += values[rows].astype(np.float64) @ chosen


def _fill_panels(whole: Float32, out: Float32, fresh: bool, low: int, high: int) -> None:
    """Products of the frames of some panels with those and all later ones; the library lets other threads go on.

    They take the place of what is in `out` if it is `fresh`, or are added to it.
    """
    for top in range(low * _PANEL, min(high * _PANEL, len(out)), _PANEL):
        panel = whole[top : min(top + _PANEL, len(out))]
        line, left = out[top : top + len(panel)], top + len(panel)
        # The library makes the first of the two with half of the work: it sees the same numbers twice.
        for place, others in ((line[:, top:left], panel), (line[:, left:], whole[left:])):
            if fresh:
                np.matmul(panel, others.T, out=place)
            else:
                place += panel @ others.T


@compiled()
def _add_pairs(of_frame, pixel, value, of_pixel, times, values, place, out):  # type: ignore[no-untyped-def]
    for row in range(len(out)):
        line = out[row]
        for i in range(of_frame[row], of_frame[row + 1]):
            here = value[i]
            for j in range(place[i], of_pixel[pixel[i] + 1]):
                line[times[j]] += here * values[j]


class Diagonals:
    """Means of C2 along its diagonals, of all frames and of each of SEGMENTS parts of them."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._sums = np.zeros(frames)
        self._segments = np.zeros((SEGMENTS, frames // SEGMENTS))

    def add(self, first: int, strip: Float32) -> None:
        _add_diagonals(first, strip, self._sums, self._segments)

    @property
    def g2(self) -> Float32:
        """(frames,): at lags 0 to frames - 1."""
        return (self._sums / np.arange(self._frames, 0, -1)).astype(np.float32)

    @property
    def segments(self) -> Float32:
        """(frames // SEGMENTS, SEGMENTS)"""
        size = self._segments.shape[1]
        return (self._segments.T / np.arange(size, 0, -1)[:, None]).astype(np.float32)


@compiled()
def _add_diagonals(first, strip, sums, segments):  # type: ignore[no-untyped-def]
    rows, frames = strip.shape
    size = segments.shape[1]
    for row in range(rows):
        t = first + row
        line = strip[row, t:]
        for lag in range(frames - t):
            sums[lag] += line[lag]
        if size > 0 and t < size * segments.shape[0]:
            segment = t // size
            own = segments[segment]
            for lag in range((segment + 1) * size - t):
                own[lag] += line[lag]
