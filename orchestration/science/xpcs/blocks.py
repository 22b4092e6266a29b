"""Blocks of frames, whole or as events, whichever way the file has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import NotPhotons
from orchestration.science.stopping import look
from orchestration.science.xpcs.behind import ahead
from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.frames import Counts, DenseRaw, Events, FrameRange, Raw, SparseRaw, TimedEvents
from orchestration.science.xpcs.threads import in_threads

BLOCK_BYTES = 2**26
"""Of frames that are in memory at a time; as much again is read meanwhile."""

LONGEST = 256
"""Frames of a block: with more, what is computed from one of them does not fit the caches."""

EVENTS_AT_ONCE = 5 * 2**18
"""For arrays from 4 MB on numpy asks the system for large pages, which come faster; these are a little larger."""

_KEPT_EVENTS = 2**24
"""So many events at the most are kept for a second look."""

_EVENT_BYTES = 10
"""Of an event with its time."""

_SAMPLES = 4
"""Places of a file from which it is judged."""
_SAMPLE_EVENTS = 2**16
"""Of each of them, at about the most."""

Empty = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Block:
    """Some frames, (count * group, pixels); the first is the first part of (averaged) frame `first`."""

    first: int
    frames: Counts
    group: int
    """So many of them make one averaged frame: as many as are averaged, or 1 where these are their sums."""


def occupancy(raw: Raw, chosen: FrameRange, pixels: NDArray[np.int64]) -> float:
    """About how many of these pixels have a count in a frame, as a share; from a few places of the file."""
    if isinstance(raw, SparseRaw):
        inside = np.zeros(raw.rows * raw.columns, dtype=np.bool_)
        inside[pixels] = True
        starts = _starts(chosen)
        found = [next(raw.events(at, chosen.stop, size=_SAMPLE_EVENTS), None) for at in starts]
        batches = [(at, each) for at, each in zip(starts, found, strict=True) if each is not None and len(each.frame)]
        frames = sum(int(each.frame[-1]) - at + 1 for at, each in batches)
        hits = sum(int(np.count_nonzero(inside[each.pixel])) for _, each in batches)
        return hits / (frames * len(pixels)) if frames else 0.0
    if not isinstance(raw, DenseRaw):
        raise TypeError(f"{type(raw).__name__} gives neither frames nor events")
    return float(np.count_nonzero(_samples(raw, chosen)[:, pixels]) / (_SAMPLES * len(pixels)))


def unmeasured(raw: Raw, chosen: FrameRange, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(pixels,): those outside the mask that the detector says it cannot see, by its largest value or one below 0.

    They are told by a few frames, in all of which they have the same value. Such a value is no count: one of 32 bits in
    a frame outweighs all photons in it.
    """
    if not isinstance(raw, DenseRaw) or raw.dtype.kind not in "ui":
        return np.zeros_like(mask)
    few = _samples(raw, chosen)
    first = few[0]
    mark = first == np.iinfo(raw.dtype).max if raw.dtype.kind == "u" else first < 0
    found: NDArray[np.bool_] = ~mask & mark & (few == first).all(axis=0)
    return found


def _samples(raw: DenseRaw, chosen: FrameRange) -> Counts:
    """A few frames, (_SAMPLES, pixels)."""
    few = np.empty((_SAMPLES, raw.rows, raw.columns), dtype=raw.dtype)
    for number, at in enumerate(_starts(chosen)):
        raw.read(slice(at, at + 1, 1), few[number : number + 1])
    return few.reshape(_SAMPLES, -1)


def _starts(chosen: FrameRange) -> list[int]:
    starts: list[int] = np.linspace(chosen.first, chosen.stop, _SAMPLES, endpoint=False).astype(int).tolist()
    return starts


def blocks(raw: DenseRaw, chosen: FrameRange, *, empty: Empty = np.empty) -> Iterator[Block]:
    """All frames chosen, in room that `empty` makes; the next block is read while one is looked at.

    A block holds what it says until the next one is asked for.
    """
    pixels = raw.rows * raw.columns
    group = chosen.average
    if group > 1 and group * pixels * raw.dtype.itemsize > BLOCK_BYTES:
        yield from _sums(raw, chosen, empty)
        return
    count = int(min(LONGEST, chosen.count, max(1, BLOCK_BYTES // (pixels * raw.dtype.itemsize * group))))
    buffers = [empty((count * group, raw.rows, raw.columns), raw.dtype) for _ in range(2)]

    def read(number: int) -> Block:
        first = number * count
        size = (min(first + count, chosen.count) - first) * group
        start = chosen.first + first * group * chosen.stride
        out = buffers[number % 2][:size]
        raw.read(slice(start, start + size * chosen.stride, chosen.stride), out)
        return Block(first, out.reshape(size, pixels), group)

    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        coming = reader.submit(read, 0)
        for number in range(-(-chosen.count // count)):
            look()
            block = coming.result()
            if (number + 1) * count < chosen.count:
                coming = reader.submit(read, number + 1)
            yield block


def _sums(raw: DenseRaw, chosen: FrameRange, empty: Empty) -> Iterator[Block]:
    """One averaged frame at a time, summed up: all that go into it would not fit the memory."""
    group, total = chosen.average, empty((1, raw.rows * raw.columns), np.dtype(np.float64))
    total[:] = 0.0
    for block in blocks(raw, replace(chosen, average=1)):
        stop = block.first + len(block.frames)
        for number in range(block.first // group, -(-stop // group)):
            low, high = max(block.first, number * group), min(stop, (number + 1) * group)
            total += block.frames[low - block.first : high - block.first].sum(axis=0, dtype=np.float64)
            if high == (number + 1) * group:
                yield Block(number, total, 1)
                total[:] = 0.0


def timed(events: Events, chosen: FrameRange) -> TimedEvents:
    """Events with their times, which take the place of their frames in memory."""
    frames = int(events.frame[-1]) + 1 if len(events.frame) else 0
    time = events.frame.view(np.int32)
    _find_times(events.frame, chosen.first, chosen.stop, chosen.stride, chosen.average, time)
    return TimedEvents(time, events.pixel, events.count, frames)


@compiled()
def _find_times(frames, first, stop, stride, average, out):  # type: ignore[no-untyped-def]
    before, time = np.int64(-1), np.int64(-1)
    for i in range(len(frames)):
        frame = np.int64(frames[i])
        if frame != before:  # they are in order, and a division takes longer than all else
            before, since = frame, frame - first
            inside = since >= 0 and frame < stop and since % stride == 0
            time = since // (stride * average) if inside else np.int64(-1)
        out[i] = time


@dataclass(frozen=True)
class AsFrames:
    """Events as whole frames, for data with photons nearly everywhere."""

    raw: SparseRaw

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16)

    @property
    def path(self) -> Path:
        return self.raw.path

    @property
    def files(self) -> tuple[Path, ...]:
        return self.raw.files

    @property
    def frames(self) -> int:
        return self.raw.frames

    @property
    def rows(self) -> int:
        return self.raw.rows

    @property
    def columns(self) -> int:
        return self.raw.columns

    def read(self, frames: slice, out: Counts) -> None:
        out[:] = 0
        flat = out.reshape(len(out), -1)
        for events in self.raw.events(frames.start, frames.stop, size=EVENTS_AT_ONCE):
            place = events.frame.astype(np.int64) - frames.start
            wanted = place % frames.step == 0
            flat[place[wanted] // frames.step, events.pixel[wanted]] = events.count[wanted]


class AsEvents:
    """Whole frames as events of the wanted pixels, for data with photons nearly nowhere.

    Raises:
        NotPhotons: when frames are read that have counts as no event has them.
    """

    def __init__(self, raw: DenseRaw, wanted: NDArray[np.bool_]) -> None:
        self._raw = raw
        self._wanted = wanted

    @property
    def path(self) -> Path:
        return self._raw.path

    @property
    def files(self) -> tuple[Path, ...]:
        return self._raw.files

    @property
    def frames(self) -> int:
        return self._raw.frames

    @property
    def rows(self) -> int:
        return self._raw.rows

    @property
    def columns(self) -> int:
        return self._raw.columns

    def events(self, first: int, stop: int, *, size: int) -> Iterator[Events]:
        """Of all frames from `first` to `stop`, some tens of them at a time, whatever the `size`."""
        for block in blocks(self._raw, FrameRange(first=first, stop=stop)):
            yield self._found(block, first)

    def _found(self, block: Block, first: int) -> Events:
        sizes = np.zeros(len(block.frames), dtype=np.int64)
        in_threads(len(sizes), lambda low, high: _held(block.frames[low:high], self._wanted, sizes[low:high]))
        start = np.cumsum(sizes) - sizes
        pixel, value = np.empty(sizes.sum(), np.uint32), np.empty(sizes.sum(), block.frames.dtype)

        def find(low: int, high: int) -> None:
            _find(block.frames[low:high], self._wanted, pixel[start[low] :], value[start[low] :])

        in_threads(len(sizes), find)
        if value.size and not (value.min() >= 0 and value.max() <= np.iinfo(np.uint16).max):
            self._refuse(f"counts from {value.min()} to {value.max()}")
        if value.dtype.kind == "f" and (value % 1 != 0).any():
            self._refuse(f"counts such as {value[value % 1 != 0][0]}")
        frame = np.repeat(np.arange(len(sizes), dtype=np.uint32) + np.uint32(first + block.first), sizes)
        return Events(frame, pixel, value.astype(np.uint16))

    def _refuse(self, what: str) -> None:
        raise NotPhotons(f"{what} are not those of single photons", where=str(self.path))


class Looks:
    """The events of some frames, as often as they are looked at.

    They are read only once if they fit into so many bytes of `memory`.
    """

    def __init__(self, raw: SparseRaw, chosen: FrameRange, *, memory: int) -> None:
        self._raw = raw
        self._chosen = chosen
        self._most = min(_KEPT_EVENTS, memory // _EVENT_BYTES)
        self._kept: list[TimedEvents] | None = None

    def __iter__(self) -> Iterator[TimedEvents]:
        if self._kept is not None:
            yield from self._kept
            return
        kept, room = [], self._most
        for events in ahead(self._read()):
            room -= len(events.time)
            if room >= 0:
                kept.append(events)
            else:
                kept.clear()
            yield events
        if room >= 0:
            self._kept = kept

    def _read(self) -> Iterator[TimedEvents]:
        for events in self._raw.events(self._chosen.first, self._chosen.stop, size=EVENTS_AT_ONCE):
            yield timed(events, self._chosen)


@compiled()
def _held(frames, wanted, sizes):  # type: ignore[no-untyped-def]
    """How many of the wanted pixels of each frame have a count."""
    for t in range(len(frames)):
        row = frames[t]
        found = 0
        for p in range(len(row)):
            found += (row[p] != 0) & wanted[p]
        sizes[t] = found


@compiled()
def _find(frames, wanted, pixel, value):  # type: ignore[no-untyped-def]
    at = 0
    for t in range(len(frames)):
        row = frames[t]
        for p in range(len(row)):
            if row[p] != 0 and wanted[p]:
                pixel[at] = p
                value[at] = row[p]
                at += 1
