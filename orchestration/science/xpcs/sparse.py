"""Multi-tau correlation of photon events, pixel by pixel: nothing is done where no photon was.

The events of a pixel are a short list of times. Products at all lags of a level come from one walk over that list:
few events have another one within eight frames. From level to level pairs of frames are joined and the list gets
denser; at levels where many frames hold something, it is written out for the products: see `lanes`.

Some pixels after the others add to the sums of their unit, so that nothing of the size of pixels times lags is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ScanStillOpen
from orchestration.science.xpcs import lanes
from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.frames import TimedEvents
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.threads import in_threads, processors

_BUCKET = 10
"""The logarithm, to the base of 2, of the pixels of a bucket."""
_INSIDE = (1 << _BUCKET) - 1

_TIME, _PLACE = np.uint64(16), np.uint64(48)
"""Bits of a word below its time, of 32 bits, and below the number of its pixel in its bucket."""

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

    def add(self, batches: Sequence[TimedEvents], rank: NDArray[np.int32]) -> None:
        """Take the next events; those of a pixel whose `rank` is negative, or of a negative time, are not wanted.

        Raises:
            ScanStillOpen: if a pixel has more events than were counted.
        """
        buckets = (len(self.filled) >> _BUCKET) + 1
        pieces = [piece for batch in batches for piece in _pieces(batch)]
        sizes = np.zeros((len(pieces), buckets), dtype=np.int64)

        def fill(low: int, high: int) -> None:
            for (time, pixel, _), size in zip(pieces[low:high], sizes[low:high], strict=True):
                _fill_buckets(time, pixel, rank, size)

        in_threads(len(pieces), fill)
        # In a bucket, the events of a piece come behind those of the pieces before it.
        ends = np.cumsum(sizes.T.ravel()).reshape(buckets, len(pieces))
        starts, ends = np.ascontiguousarray(ends.T) - sizes, np.concatenate(([0], ends[:, -1]))
        words = np.empty(ends[-1], dtype=np.uint64)

        def sort(low: int, high: int) -> None:
            for piece, start in zip(pieces[low:high], starts[low:high], strict=True):
                _sort(*piece, rank, start, words)

        in_threads(len(pieces), sort)
        own = (self.time, self.count, self.filled, self.start)
        lost: list[int] = []
        in_threads(buckets, lambda low, high: lost.append(_append(low, high, ends, words, own)))
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
    events, found = (train.start, train.time, train.count), (sums, segments, pixels)

    def work(low: int, high: int) -> None:
        lanes.correlate(low, high, events, scale, start, lags, segment_level=segment_level, found=found)

    in_threads(units, work)
    # Where a pixel saw no pair, its g2 - 1 is -1.
    dark = np.diff(start)[:, None] - sums[:, :, 5]
    sums[:, :, 3] -= dark
    sums[:, :, 4] += dark
    return Correlated(sums=sums[:, :, :5], segments=segments.T, pixels=pixels if keep_pixels else None)


# Events come in the order of frames, and the place of one is far from that of the next. They are sorted into buckets of
# neighbouring pixels first: what is then written to at a time fits a cache.


def _pieces(events: TimedEvents) -> Iterator[tuple[NDArray[np.int32], NDArray[np.uint32], NDArray[np.uint16]]]:
    """Time, pixel and count of parts of them, one for each processor."""
    edges = np.linspace(0, len(events.time), processors() + 1).astype(int).tolist()
    for low, high in pairwise(edges):
        yield events.time[low:high], events.pixel[low:high], events.count[low:high]


@compiled()
def _fill_buckets(time, pixel, rank, sizes):  # type: ignore[no-untyped-def]
    for i in range(len(time)):
        place = rank[pixel[i]]
        if place >= 0 and time[i] >= 0:
            sizes[place >> _BUCKET] += 1


@compiled()
def _sort(time, pixel, count, rank, next_one, words):  # type: ignore[no-untyped-def]
    """An event is one word, so that a bucket is written to in one place: its pixel there, its time and its count."""
    for i in range(len(time)):
        place = rank[pixel[i]]
        if place >= 0 and time[i] >= 0:
            at = next_one[place >> _BUCKET]
            words[at] = np.uint64(place & _INSIDE) << _PLACE | np.uint64(time[i]) << _TIME | np.uint64(count[i])
            next_one[place >> _BUCKET] = at + 1


@compiled()
def _append(low, high, ends, words, train):  # type: ignore[no-untyped-def]
    """How many events found no room."""
    time, count, filled, start = train
    lost = 0
    for bucket in range(low, high):
        for i in range(ends[bucket], ends[bucket + 1]):
            word = words[i]
            place = (bucket << _BUCKET) + np.int64(word >> _PLACE)
            at = filled[place]
            if at < start[place + 1]:
                time[at], count[at] = np.uint32(word >> _TIME), np.uint16(word)
                filled[place] = at + 1
            else:
                lost += 1
    return lost
