"""IMM files of APS 8-ID: a header of 1024 bytes before each frame, which is stored whole or as photon events.

The header has little-endian integers of 32 bits: at byte 4 the compression, at 108 the rows, at 112 the columns, at 152
the number of values (T. Madden, APS detector group; pyimm and boost_corr read the same). With compression 6, as many
pixels of 32 bits and then as many counts of 16 bits follow; otherwise counts of 16 bits, one for each pixel.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import EventsInvalid, FormatUnknown, ScanTruncated, ShapeMismatch
from orchestration.science.stopping import look
from orchestration.science.xpcs import words as packed
from orchestration.science.xpcs.binary import BinaryFile, Witness, open_binary
from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.frames import Counts, Events

HEADER = 1024
SPARSE = 6
"""The compression of photon events."""
FIELDS = struct.Struct("<4xi100xii36xI")
"""Compression, rows, columns, values."""

_EVENT = 6
"""Bytes."""
_LARGEST = 1 << 16
"""More rows or columns than any detector has."""


class Header(NamedTuple):
    """What counts of the header of a frame."""

    compression: int
    rows: int
    columns: int
    values: int

    @classmethod
    def read(cls, file: BinaryFile, offset: int, *, frame: int) -> Header:
        head = file.peek(offset, FIELDS.size)
        if len(head) < FIELDS.size or offset + HEADER > file.size:
            raise _truncated(file, frame)
        return cls(*FIELDS.unpack(head))

    @property
    def sparse(self) -> bool:
        return self.compression == SPARSE

    @property
    def size(self) -> int:
        """Bytes of the frame behind the header."""
        return self.values * (_EVENT if self.sparse else 2)

    @property
    def credible(self) -> bool:
        if not (0 < self.rows <= _LARGEST and 0 < self.columns <= _LARGEST):
            return False
        pixels = self.rows * self.columns
        return self.values <= pixels if self.sparse else self.values == pixels

    @property
    def kind(self) -> tuple[bool, int, int]:
        """What all frames of a file have in common."""
        return self.sparse, self.rows, self.columns

    def __str__(self) -> str:
        return f"{self.values} {'events' if self.sparse else 'values'} of {self.rows} x {self.columns} pixels"


@dataclass(frozen=True)
class Index:
    """Where the frames of a file are."""

    header: Header
    """Of the first frame."""
    start: NDArray[np.int64]
    """Of each frame, behind its header; and where a frame after the last one would start."""
    values: NDArray[np.int64]

    @classmethod
    def of(cls, file: BinaryFile) -> Index:
        """Go from header to header.

        Raises:
            ScanTruncated: naming the frame of which something is missing.
            ShapeMismatch: if a frame is of another size or kind than the first one.
            FormatUnknown: if that has no header of this format.
        """
        first = Header.read(file, 0, frame=0)
        if not first.credible:
            raise FormatUnknown(f"the first frame would have {first}: this is no IMM file", where=str(file.path))
        starts, values = array("q"), array("q")
        offset = 0
        while offset < file.size:
            look()
            header = Header.read(file, offset, frame=len(starts))
            if header.kind != first.kind or not header.credible:
                what = f"frame {len(starts)} has {header}, the first one {first}"
                raise ShapeMismatch(what, where=f"{file.path}, byte {offset}")
            starts.append(offset + HEADER)
            values.append(header.values)
            offset += HEADER + header.size
        if offset > file.size:
            raise _truncated(file, len(starts) - 1)
        starts.append(offset + HEADER)
        return cls(first, np.frombuffer(starts, dtype=np.int64), np.frombuffer(values, dtype=np.int64))


def _truncated(file: BinaryFile, frame: int) -> ScanTruncated:
    return ScanTruncated(f"the raw file ends within frame {frame}", where=f"{file.path}, byte {file.size}")


def looks_like_imm(path: Path) -> bool:
    """Whether a file starts with a header that could be one."""
    with open_binary(path) as file:
        return file.size >= HEADER and Header.read(file, 0, frame=0).credible


@contextmanager
def open_imm(path: Path) -> Iterator[ImmDense | ImmSparse]:
    """Open a file; which of the two it is, its first frame says.

    Raises:
        ScanUnreadable: or one of its kinds, naming the frame.
    """
    witness = Witness.of(path)
    with open_binary(path) as file:
        index = Index.of(file)
        kind = ImmSparse if index.header.sparse else ImmDense
        yield kind(file, index, witness)
        witness.demand_unchanged()


class _Imm:
    def __init__(self, file: BinaryFile, index: Index, witness: Witness) -> None:
        self._file = file
        self._index = index
        self._witness = witness
        self.path = file.path
        self.files = (file.path,)
        self.frames = len(index.values)
        self.rows = index.header.rows
        self.columns = index.header.columns


class ImmDense(_Imm):
    """Frames that are stored whole."""

    dtype = np.dtype("<u2")

    def read(self, frames: slice, out: Counts) -> None:
        """See `DenseRaw`."""
        for frame, place in zip(range(frames.start, frames.stop, frames.step), out, strict=True):
            self._file.read(int(self._index.start[frame]), place)


class ImmSparse(_Imm):
    """Frames that are stored as photon events; those of zero counts are none."""

    def __init__(self, file: BinaryFile, index: Index, witness: Witness) -> None:
        super().__init__(file, index, witness)
        if self.rows * self.columns > packed.PIXELS:
            what = f"{self.rows} x {self.columns} pixels are more than the {packed.PIXELS} that events can name"
            raise ShapeMismatch(what, where=str(file.path))

    def events(self, first: int, stop: int, *, size: int) -> Iterator[Events]:
        """See `SparseRaw`.

        Raises:
            ScanStillOpen: if the file changed until all of it was read.
        """
        # Headers are read along with the events; where these are few, the headers limit a batch.
        limit = max(2 * HEADER, _EVENT * size)
        starts = self._index.start
        while first < stop:
            until = int(np.searchsorted(starts, starts[first] + limit, side="right")) - 1
            until = min(stop, max(first + 1, until))
            yield self._batch(first, until)
            first = until
        self._witness.demand_unchanged()

    def _batch(self, first: int, stop: int) -> Events:
        starts, values = self._index.start[first : stop + 1], self._index.values[first:stop]
        raw = np.empty((starts[-1] - HEADER - starts[0]) // 2, dtype="<u2")  # headers and events are of even sizes
        self._file.read(int(starts[0]), raw)
        size = values.sum()
        frame, pixel, count = np.empty(size, np.uint32), np.empty(size, np.uint32), np.empty(size, np.uint16)
        places = (starts[:-1] - starts[0]) // 2
        kept, bad, ordered = _gather(raw, places, values, first, self.rows * self.columns, frame, pixel, count)
        if bad >= 0:
            self._refuse(first + bad)
        if ordered:
            return Events(frame=frame[:kept], pixel=pixel[:kept], count=count[:kept])
        words = packed.pack(frame[:kept], pixel[:kept], count[:kept], base=first)
        packed.sort_frames(words, np.empty_like(words))
        return packed.unpack(words, base=first)

    def _refuse(self, frame: int) -> None:
        start, values = int(self._index.start[frame]), int(self._index.values[frame])
        pixels = np.empty(values, dtype="<u4")
        self._file.read(start, pixels)
        worst = int(np.argmax(pixels))
        what = f"pixel {pixels[worst]} lies outside the {self.rows} x {self.columns} of the detector"
        raise EventsInvalid(what, where=f"{self.path}, byte {start + 4 * worst}, frame {frame}")


@compiled()
def _gather(raw, starts, values, first, pixels, frame, pixel, count):  # type: ignore[no-untyped-def]
    """How many events there are, which frame has a pixel outside (or -1), and whether they are sorted.

    Of those of one pixel that follow each other in a frame the last one counts.
    """
    kept, ordered = 0, True
    for t in range(len(values)):
        place, before = starts[t], np.int64(-1)
        counts = place + 2 * values[t]
        for i in range(values[t]):
            # Frames start at any even byte.
            at = place + 2 * i
            here, photons = np.int64(raw[at]) | (np.int64(raw[at + 1]) << 16), raw[counts + i]
            if here >= pixels:
                return kept, t, ordered
            if photons == 0:
                continue
            if here < before:
                ordered = False
            elif here == before:
                kept -= 1
            before = here
            frame[kept], pixel[kept], count[kept] = first + t, here, photons
            kept += 1
    return kept, -1, ordered
