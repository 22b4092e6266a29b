"""One pass over the frames, or two over the events: all that has to be known of the raw data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from orchestration.science.stopping import look
from orchestration.science.timing import Stopwatch
from orchestration.science.xpcs import sparse, twotime
from orchestration.science.xpcs.ages import Ages
from orchestration.science.xpcs.blocks import Block, Looks, blocks
from orchestration.science.xpcs.engines import Engine, Series
from orchestration.science.xpcs.frames import Array, DenseRaw, SparseRaw, TimedEvents
from orchestration.science.xpcs.plan import Plan
from orchestration.science.xpcs.survey import Survey, scales
from orchestration.science.xpcs.threads import in_threads

_SORTED = 2**22
"""Events that are sorted together, at about the most."""

_UNIT = 256
"""Pixels of a unit of those that are in no bin."""

T = TypeVar("T")

Index = NDArray[np.int64]
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    survey: Survey
    segments: NDArray[np.float64]
    """(segments, static bins), in the unit of the kind of correlation: see `segments_of`."""
    sums: NDArray[np.float64] | None
    """(units, lags, 5), for multi-tau."""
    pixels: Callable[[int], NDArray[np.float32]] | None
    """G2, IP and IF at one lag, (3, rows * columns), where they are wanted."""
    twotime: Callable[[Index], twotime.Bin] | None
    """The normalised frames of the pixels of one of the selected bins."""


def measure(plan: Plan, engine: Engine, *, folder: Path, watch: Stopwatch, advance: Advance) -> Measured:
    """Look at all the frames of the plan; `advance` is told how many more were. Large arrays may go to `folder`.

    Raises:
        ScanUnreadable: or one of its kinds, if the raw data is not what it should be.
    """
    if isinstance(plan.raw, SparseRaw):
        return _Events(plan, plan.raw, engine, folder, watch, advance).measured()
    return _Frames(plan, plan.raw, engine, folder, watch, advance).measured()


def _by_static(plan: Plan, segments: NDArray[np.floating]) -> NDArray[np.float64]:
    """Means over static bins of (segments, units) of sums, as a share of all frames: as boost_corr has it."""
    bins = plan.bins
    size = np.bincount(bins.unit_static, weights=bins.unit_size)
    sums = np.zeros((len(segments), len(size)))
    np.add.at(sums.T, bins.unit_static, segments.T)
    return sums / size / plan.chosen.count


class _Frames:
    def __init__(
        self, plan: Plan, raw: DenseRaw, engine: Engine, folder: Path, watch: Stopwatch, advance: Advance
    ) -> None:
        self._plan, self._raw, self._engine, self._watch, self._advance = plan, raw, engine, watch, advance
        self._survey = engine.survey(plan.processed, plan.chosen.count)
        self._ages = None if plan.parameters.multitau else Ages(plan)
        self._unit = plan.bins.unit_map(plan.pixels)
        self._wanted = np.sort(np.concatenate([plan.bins.pixel, plan.others]))
        self._store: NDArray[np.generic] | None = None
        self._spool: NDArray[np.generic] | None = None
        limit = plan.parameters.memory_bytes
        if plan.parameters.save_G2:
            sizes = (len(plan.lags), 3, len(self._wanted))
            self._store = _spool(folder / "pixels", sizes, np.dtype(np.float32), limit=limit // 4)
        if plan.parameters.twotime:
            self._columns = np.concatenate([pixel for _, pixel in plan.selected])
            kind = np.dtype(np.float32) if plan.chosen.average > 1 else raw.dtype
            shape = (plan.chosen.count, len(self._columns))
            self._spool = _spool(folder / "frames", shape, kind, limit=limit // 4)

    def measured(self) -> Measured:
        plan = self._plan
        sums, segments = None, None
        if plan.parameters.multitau:
            sums, segments = self._correlate()
        else:
            self._look(None)
        if self._ages is not None:
            segments = self._ages.means
        return Measured(
            survey=self._survey,
            segments=np.empty((0, 0)) if segments is None else segments,
            sums=sums,
            pixels=self._pixels if self._store is not None else None,
            twotime=self._bin if self._spool is not None else None,
        )

    def _correlate(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Band by band of pixels, so many at a time that what is kept of them fits the memory."""
        plan, level, units = self._plan, self._plan.segment_level, self._plan.bins.units
        size = self._engine.bytes_per_pixel(plan.lags, segment_level=level) * len(self._wanted)
        count = max(1, -(-size // max(1, self._engine.room(plan.parameters.memory_bytes) // 2)))
        sums = np.zeros((units, len(plan.lags), 5))
        segments = np.zeros((plan.chosen.count >> level, units))
        edges = np.linspace(0, len(self._wanted), min(count, len(self._wanted)) + 1).astype(int).tolist()
        for low, high in pairwise(edges):
            wanted = self._wanted[low:high]
            series = self._engine.series(wanted, plan.lags, pixels=plan.pixels, segment_level=level)
            self._look(series, again=low > 0)
            with self._watch.stage("g2"):
                unit = self._unit[wanted]
                sums += series.sums(unit, units)
                for part, values in zip(segments, series.segment_sums()[:, unit >= 0], strict=True):
                    part += np.bincount(unit[unit >= 0], weights=values, minlength=units)
            if self._store is not None:
                for lag in range(len(plan.lags)):
                    self._store[lag, :, low:high] = series.pixels(lag)
        return sums, _by_static(plan, segments)

    def _look(self, series: Series | None, *, again: bool = False) -> None:
        """At all the frames; what is not about the pixels of a band is done only the first time."""
        average = self._plan.chosen.average
        for block in _timed(blocks(self._raw, self._plan.chosen, empty=self._engine.empty), self._watch, "read"):
            count = len(block.frames) // block.group
            with self._watch.stage("take"):
                frames = self._engine.taken(block.frames)
            if not again:
                self._survey_block(block, frames)
                self._advance(count)
            if series is not None:
                with self._watch.stage("multitau"):
                    means = self._survey.means[block.first : block.first + count]
                    normalise = self._plan.parameters.normalize_frame
                    series.add(frames, scales(means, average=average, normalise=normalise))

    def _survey_block(self, block: Block, frames: Array) -> None:
        stop = block.first + len(frames) // block.group
        edges = [block.first, stop] if self._ages is None else self._ages.edges(block.first, stop)
        with self._watch.stage("survey"):
            for first, last in pairwise(edges):
                some = frames[(first - block.first) * block.group : (last - block.first) * block.group]
                self._survey_age(first, some, block.group)
        if self._spool is not None:
            with self._watch.stage("spool"):
                values = _taken(block.frames, self._columns)
                if (average := self._plan.chosen.average) > 1:
                    values = values.reshape(-1, block.group, len(self._columns)).sum(axis=1, dtype=np.float64) / average
                self._spool[block.first : block.first + len(values)] = values

    def _survey_age(self, first: int, frames: Array, group: int) -> None:
        """Some frames, all of one age: by how much the total grows is what that sees."""
        survey, ages = self._survey, self._ages
        before = None if ages is None else survey.total.copy()
        survey.add(frames, first, average=self._plan.chosen.average, group=group, path=self._raw.path)
        if ages is not None and before is not None:
            ages.add(first, survey.total - before)

    def _pixels(self, lag: int) -> NDArray[np.float32]:
        out = np.zeros((3, self._plan.pixels), dtype=np.float32)
        if self._store is not None:
            out[:, self._wanted] = self._store[lag]
        return out

    def _bin(self, pixel: Index) -> twotime.Bin:
        if self._spool is None:
            raise ValueError("no two-time functions were planned")
        first = int(np.flatnonzero(self._columns == pixel[0])[0])
        return self._engine.whole_frames(self._spool[:, first : first + len(pixel)], self._plan.parts(pixel))


class _Events:
    def __init__(
        self, plan: Plan, raw: SparseRaw, engine: Engine, folder: Path, watch: Stopwatch, advance: Advance
    ) -> None:
        self._plan, self._engine, self._watch, self._advance = plan, engine, watch, advance
        self._folder = folder
        self._events = Looks(raw, plan.chosen, memory=plan.parameters.memory_bytes // 4)
        self._survey = Survey.of(plan.processed, plan.chosen.count)
        self._held = np.zeros(plan.pixels, dtype=np.int64)
        self._ages = None if plan.parameters.multitau else Ages(plan)
        self._store: NDArray[np.generic] | None = None
        self._kept: list[tuple[NDArray[np.int32], NDArray[np.uint32], NDArray[np.uint16]]] = []
        # Units first, then the pixels that are in none.
        self._order = np.concatenate([plan.bins.pixel[plan.bins.order], plan.others])
        extra = np.arange(len(plan.bins.order) + _UNIT, len(self._order) + _UNIT, _UNIT)
        self._start = np.concatenate([plan.bins.start, np.minimum(extra, len(self._order))])

    def measured(self) -> Measured:
        plan = self._plan
        self._look()
        sums, segments = None, None if self._ages is None else self._ages.means
        if plan.parameters.multitau:
            sums, segments = self._correlate()
        return Measured(
            survey=self._survey,
            segments=np.empty((0, 0)) if segments is None else segments,
            sums=sums,
            pixels=self._pixels if self._store is not None else None,
            twotime=self._bin if plan.parameters.twotime else None,
        )

    def _look(self) -> None:
        """The first look: how bright frames and pixels are, and the events of two-time functions."""
        plan, chosen = self._plan, self._plan.chosen
        selected = np.zeros(plan.pixels, dtype=np.bool_)
        for _, pixel in plan.selected if plan.parameters.twotime else ():
            selected[pixel] = True
        done = 0
        for events in _timed(iter(self._events), self._watch, "read"):
            with self._watch.stage("survey"):
                self._survey.count(events, self._held, average=chosen.average)
                if self._ages is not None:
                    self._ages.count(events)
            if plan.parameters.twotime:
                inside = selected[events.pixel] & (events.time >= 0)
                self._kept.append((events.time[inside], events.pixel[inside], events.count[inside]))
            if len(events.time):
                seen = (events.frames - chosen.first) * chosen.count // (chosen.stop - chosen.first)
                self._advance(seen - done)
                done = seen
        self._advance(chosen.count - done)

    def _correlate(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Band by band of pixels, so many at a time that their events fit the memory."""
        plan = self._plan
        scale = scales(self._survey.means, average=plan.chosen.average, normalise=plan.parameters.normalize_frame)
        if plan.parameters.save_G2:
            shape = (len(plan.lags), 3, len(self._order))
            self._store = _spool(
                self._folder / "pixels", shape, np.dtype(np.float32), limit=plan.parameters.memory_bytes // 4
            )
        sums = np.zeros((len(self._start) - 1, len(plan.lags), 5))
        segments = np.zeros((plan.chosen.count >> plan.segment_level, len(self._start) - 1))
        for low, high in self._bands():
            first, last = int(self._start[low]), int(self._start[high])
            train = self._train(first, last)
            with self._watch.stage("multitau"):
                found = self._engine.correlate(
                    train,
                    scale,
                    self._start[low : high + 1] - first,
                    plan.lags,
                    segment_level=plan.segment_level,
                    keep_pixels=self._store is not None,
                )
            sums[low:high], segments[:, low:high] = found.sums, found.segments
            if self._store is not None and found.pixels is not None:
                self._store[..., first:last] = found.pixels
        units = plan.bins.units
        return sums[:units], _by_static(plan, segments[:, :units])

    def _bands(self) -> Iterator[tuple[int, int]]:
        """Ranges of units."""
        size = self._engine.bytes_per_event + (12 * len(self._plan.lags) if self._store is not None else 0)
        events = np.add.reduceat(self._held[self._order], self._start[:-1])
        filled = np.cumsum(events * size) // max(1, self._engine.room(self._plan.parameters.memory_bytes) // 2)
        edges = np.flatnonzero(np.diff(filled)) + 1
        bounds = [0, *edges.tolist(), len(events)]
        yield from pairwise(bounds)

    def _train(self, first: int, last: int) -> sparse.Train:
        pixel = self._order[first:last]
        rank = np.full(self._plan.pixels, -1, dtype=np.int32)
        rank[pixel] = np.arange(len(pixel), dtype=np.int32)
        train = sparse.Train.of(self._held[pixel])
        for events in _timed(_together(iter(self._events)), self._watch, "read"):
            with self._watch.stage("sort"):
                train.add(events, rank)
        return train

    def _pixels(self, lag: int) -> NDArray[np.float32]:
        out = np.zeros((3, self._plan.pixels), dtype=np.float32)
        if self._store is not None:
            out[:, self._order] = self._store[lag]
        return out

    def _bin(self, pixel: Index) -> twotime.Bin:
        plan = self._plan
        place = np.full(plan.pixels, -1, dtype=np.int64)
        place[pixel] = np.arange(len(pixel))
        nothing = (np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint16))
        time, where, count = (np.concatenate(parts) for parts in zip(nothing, *self._kept, strict=True))
        inside = place[where] >= 0
        cells, counts = _joined(time[inside] * len(pixel) + place[where[inside]], count[inside] / plan.chosen.average)
        time, local = np.divmod(cells, len(pixel))
        frames, part = plan.chosen.count, plan.parts(pixel)
        if twotime.pairs(local) * twotime.PAIR_COST < twotime.frames_cost(frames, len(pixel)):
            return twotime.PhotonEvents.of(frames, time, local, counts, part)
        whole = np.zeros((frames, len(pixel)), dtype=np.float32)
        whole[time, local] = counts
        return self._engine.whole_frames(whole, part)


def _together(batches: Iterator[TimedEvents]) -> Iterator[list[TimedEvents]]:
    """Some batches at a time: the more are sorted together, the fewer places of a pixel's events are written to."""
    together: list[TimedEvents] = []
    for batch in batches:
        if together and sum(len(one.time) for one in (*together, batch)) > _SORTED:
            yield together
            together = []
        together.append(batch)
    if together:
        yield together


def _joined(cells: Index, counts: NDArray[np.float64]) -> tuple[Index, NDArray[np.float32]]:
    """Cells in order, each once, with the sum of its counts: averaged frames may hold a pixel several times."""
    found, place = np.unique(cells, return_inverse=True)
    return found, np.bincount(place, weights=counts, minlength=len(found)).astype(np.float32)


def _taken(frames: NDArray[np.generic], columns: Index) -> NDArray[np.generic]:
    """Some pixels of frames."""
    out = np.empty((len(frames), len(columns)), dtype=frames.dtype)

    def take(low: int, high: int) -> None:
        # With numbers that are known to be right, numpy writes straight to where it is told to.
        np.take(frames[low:high], columns, axis=1, out=out[low:high], mode="clip")

    in_threads(len(frames), take)
    return out


def _spool(path: Path, shape: tuple[int, ...], kind: np.dtype[np.generic], *, limit: int) -> NDArray[np.generic]:
    """An array of zeros in memory, or in a file if it is too large for that.

    Raises:
        OSError: if there is no room for the file.
    """
    size = math.prod(shape) * kind.itemsize
    if size <= limit:
        return np.zeros(shape, dtype=kind)
    with path.open("wb") as file:
        # The system ends a process without a word where a mapped file finds no room on the disk.
        os.posix_fallocate(file.fileno(), 0, size)
    return np.memmap(path, dtype=kind, mode="r+", shape=shape)


def _timed(items: Iterator[T], watch: Stopwatch, stage: str) -> Iterator[T]:
    """The same items; the time until each is there counts as that stage."""
    while True:
        look()
        with watch.stage(stage):
            item = next(items, None)
        if item is None:
            return
        yield item
