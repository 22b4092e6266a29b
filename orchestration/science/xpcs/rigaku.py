"""Photon events of Rigaku's detectors: the 500k (``.bin``), and the 3M of six of them (``.bin.000`` to ``.bin.005``).

Files are streams of little-endian 64-bit words in the order of their frames: count in bits 0 to 11, pixel in bits 16 to
36, frame in bits 40 to 63. Some detectors add 1024 * 1024 to all pixels (APS 8-ID; boost_corr reads the same).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestration.science.errors import EventsInvalid, ScanTruncated
from orchestration.science.xpcs import words as packed
from orchestration.science.xpcs.binary import BinaryFile, Witness, open_binary
from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.frames import Events
from orchestration.science.xpcs.listing import part_names
from orchestration.science.xpcs.words import FRAME_SHIFT, PIXEL_SHIFT, Words

MODULE_ROWS, MODULE_COLUMNS = 512, 1024
ORDER_3M = (5, 0, 4, 1, 3, 2)
"""The files of the 3M, row by row of two modules."""
GAP_ROWS, GAP_COLUMNS = 70, 52
FRAMES = 1 << 24
"""More frames do not fit into an event."""
COUNTS = 0xFFF
"""The largest count of an event."""

_OFFSET = 1024 * 1024
_COUNT = np.uint64(COUNTS)
_PIXEL = np.uint64(0x1FFFFF)
_INSIDE = np.uint64(MODULE_ROWS * MODULE_COLUMNS)
_COLUMN_BITS = np.uint64(10)
_COLUMN = np.uint64(MODULE_COLUMNS - 1)
_GOOD, _DISORDER, _OUTSIDE, _NOTHING = 0, 1, 2, 3


@dataclass(frozen=True)
class Layout:
    """Where the modules of a detector lie."""

    rows: int
    columns: int
    corners: tuple[tuple[int, int], ...]
    """Row and column of the first pixel of each, in the order of the files."""


LAYOUT_500K = Layout(MODULE_ROWS, MODULE_COLUMNS, ((0, 0),))


def _layout_3m() -> Layout:
    down, right = MODULE_ROWS + GAP_ROWS, MODULE_COLUMNS + GAP_COLUMNS
    corners = tuple((ORDER_3M.index(file) // 2 * down, ORDER_3M.index(file) % 2 * right) for file in range(6))
    return Layout(2 * down + MODULE_ROWS, right + MODULE_COLUMNS, corners)


LAYOUT_3M = _layout_3m()


def files_3m(path: Path) -> tuple[Path, ...]:
    """All six files, from the path of the first."""
    return tuple(path.with_name(name) for name in part_names(path.name, where=str(path)))


@contextmanager
def open_500k(path: Path) -> Iterator[Rigaku]:
    """Open the file of a 500k."""
    with _open((path,), LAYOUT_500K) as raw:
        yield raw


@contextmanager
def open_3m(path: Path) -> Iterator[Rigaku]:
    """Open the six files of a 3M; `path` is the first."""
    with _open(files_3m(path), LAYOUT_3M) as raw:
        yield raw


@contextmanager
def _open(files: tuple[Path, ...], layout: Layout) -> Iterator[Rigaku]:
    witness = Witness.of(*files)
    with ExitStack() as stack:
        modules = tuple(
            _Module(stack.enter_context(open_binary(file)), corner=corner, columns=layout.columns)
            for file, corner in zip(files, layout.corners, strict=True)
        )
        yield Rigaku(modules, layout, witness)
        witness.demand_unchanged()


def _before(frame: int, block: Words) -> int:
    """How many of the events, which are in order, are of frames before this one."""
    # What comes behind the last frame that there can be is no word any more.
    return len(block) if frame >= FRAMES else int(np.searchsorted(block, np.uint64(frame << 40)))


class _Module:
    """The events of one file."""

    def __init__(self, file: BinaryFile, *, corner: tuple[int, int], columns: int) -> None:
        if file.size % 8:
            what = f"the raw file ends within an event: {file.size} bytes are no whole number of 8"
            raise ScanTruncated(what, where=str(file.path))
        self.file = file
        self.size = file.size // 8
        self._origin = corner[0] * columns + corner[1]
        self._columns = columns
        # If the offset is on one event it is on all: what has none is then outside the module, and is refused.
        self._offset = _OFFSET if (self._word(0) >> 16) & int(_PIXEL) >= _OFFSET else 0

    @property
    def frames(self) -> int:
        return (self._word(self.size - 1) >> 40) + 1

    def _word(self, place: int) -> int:
        return int.from_bytes(self.file.peek(8 * place, 8), "little")

    def search(self, frame: int) -> int:
        """The place of the first event of this frame or a later one."""
        # Where all is read, nothing is left out of it, in whatever order a file may be.
        if frame <= 0:
            return 0
        if frame >= self.frames:
            return self.size
        low, high = 0, self.size
        while low < high:
            middle = (low + high) // 2
            if self._word(middle) >> 40 < frame:
                low = middle + 1
            else:
                high = middle
        return low

    def translate(self, raw: Words, out: Words, *, place: int, first: int, stop: int) -> None:
        """Put pixels into the whole detector; checked, and sorted by pixel within frames.

        Args:
            raw: (n,), as they are in the file; overwritten.
            out: (n,).
            place: of the first of them in the file.
            first: none is of a frame before this,
            stop: nor of this or a later one.
        """
        limits = np.uint64(first), np.uint64(stop)
        shift = np.uint64(self._offset), np.uint64(self._origin), np.uint64(self._columns)
        fault, at, ordered = _translate(raw, out, *limits, *shift)
        if fault != _GOOD:
            self._refuse(fault, int(raw[at]), place + at)
        if not ordered:
            packed.sort_frames(out, raw)

    def _refuse(self, fault: int, word: int, place: int) -> None:
        frame, pixel = word >> 40, (word >> 16) & int(_PIXEL)
        what = {
            _DISORDER: f"frame {frame} is out of order",
            _OUTSIDE: f"pixel {pixel} lies outside the {MODULE_ROWS} x {MODULE_COLUMNS} of the detector",
            _NOTHING: "an event has no photon",
        }[fault]
        raise EventsInvalid(what, where=f"{self.file.path}, byte {8 * place}, frame {frame}")


@compiled()
def _translate(raw, out, first, stop, offset, origin, columns):  # type: ignore[no-untyped-def]
    """What is wrong, and with which; and whether all are sorted by pixel within their frame."""
    ordered = True
    frame_before, key_before = first, np.uint64(0)
    for i in range(len(raw)):
        word = raw[i]
        frame = word >> FRAME_SHIFT
        inside = ((word >> PIXEL_SHIFT) & _PIXEL) - offset
        count = word & _COUNT
        if frame < frame_before or frame >= stop:
            return _DISORDER, i, ordered
        # An offset that is missing makes it wrap around to a number that is too large.
        if inside >= _INSIDE:
            return _OUTSIDE, i, ordered
        if count == 0:
            return _NOTHING, i, ordered
        pixel = origin + (inside >> _COLUMN_BITS) * columns + (inside & _COLUMN)
        key = (frame << FRAME_SHIFT) | (pixel << PIXEL_SHIFT)
        if key < key_before:
            ordered = False
        frame_before, key_before = frame, key
        out[i] = key | count
    return _GOOD, 0, ordered


class Rigaku:
    """Open files of one measurement; frames without any photon at the end are not seen."""

    def __init__(self, modules: tuple[_Module, ...], layout: Layout, witness: Witness) -> None:
        self._modules = modules
        self._witness = witness
        self.path = modules[0].file.path
        self.files = tuple(module.file.path for module in modules)
        self.frames = max(module.frames for module in modules)
        self.rows = layout.rows
        self.columns = layout.columns

    def events(self, first: int, stop: int, *, size: int) -> Iterator[Events]:
        """See `SparseRaw`. That a file is in order is seen of what is read of it: if that is all, then of all.

        Raises:
            ScanStillOpen: if a file changed until all of it was read.
        """
        places = [module.search(first) for module in self._modules]
        ends = [module.search(stop) for module in self._modules]
        share = max(1, size // len(self._modules))
        while any(place < end for place, end in zip(places, ends, strict=True)):
            blocks = self._read(places, ends, share)
            # The last frame of a block may go on behind it, so that all are whole below the earliest of these only.
            limit = min(
                min(stop, int(block[-1] >> FRAME_SHIFT)) if place + len(block) < end else stop
                for place, end, block in zip(places, ends, blocks, strict=True)
            )
            whole = [block[: _before(limit, block)] for block in blocks]
            if limit <= first or not any(map(len, whole)):
                self._translate(places, blocks, first, stop)
                share *= 2
                continue
            words = self._translate(places, whole, first, limit)
            places = [place + len(taken) for place, taken in zip(places, whole, strict=True)]
            first = limit
            yield packed.unpack(words)
        self._witness.demand_unchanged()

    def _read(self, places: list[int], ends: list[int], share: int) -> list[Words]:
        blocks = []
        for module, place, end in zip(self._modules, places, ends, strict=True):
            block = np.empty(min(share, end - place), dtype="<u8")
            module.file.read(8 * place, block)
            blocks.append(block)
        return blocks

    def _translate(self, places: list[int], blocks: list[Words], first: int, stop: int) -> Words:
        """The events of all modules, in the order of frames and pixels."""
        bounds = np.cumsum([0, *map(len, blocks)])
        words = np.empty(bounds[-1], dtype=np.uint64)
        for i, module in enumerate(self._modules):
            module.translate(blocks[i], words[bounds[i] : bounds[i + 1]], place=places[i], first=first, stop=stop)
        if len(blocks) == 1:
            return words
        merged = np.empty_like(words)
        packed.merge(words, bounds, merged)
        return merged
