"""Raw data as the correlators take it: frames, or photon events, and which of the frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ParametersInvalid

Counts = NDArray[np.generic]

Array = Any
"""An array of numpy or of cupy: no common type exists."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which frames of a file, with the meaning of boost_corr's options ``-b -e -f -a``."""

    begin: int = 0
    """The first frame; a negative number counts from the end."""
    end: int = -1
    """The frame after the last one; 0 or less for all that there are."""
    stride: int = 1
    """Every so many-th frame is taken."""
    average: int = 1
    """So many of those that are taken are averaged to one."""

    def __post_init__(self) -> None:
        for name in ("stride", "average"):
            if getattr(self, name) < 1:
                raise ParametersInvalid(f"{name} is {getattr(self, name)}, not at least 1", where="frame selection")

    def of(self, total: int) -> FrameRange:
        """The frames selected of `total`.

        Raises:
            ParametersInvalid: if fewer than two are left, after averaging.
        """
        begin = max(0, total + self.begin) if self.begin < 0 else self.begin
        end = total if self.end <= 0 else min(self.end, total)
        group = self.stride * self.average
        count = max(0, end - begin) // group
        if count < 2:
            what = f"frames {self.begin} to {self.end} by {group} leave {count} of {total}: two are needed at least"
            raise ParametersInvalid(what, where="frame selection")
        return FrameRange(first=begin, stop=begin + count * group, stride=self.stride, average=self.average)


@dataclass(frozen=True, kw_only=True)
class FrameRange:
    """Frames ``first, first + stride, ...`` below `stop`, whose number is a multiple of `average`."""

    first: int
    stop: int
    stride: int = 1
    average: int = 1

    @property
    def count(self) -> int:
        """N, the number of frames that are correlated."""
        return (self.stop - self.first) // (self.stride * self.average)


@dataclass(frozen=True)
class Events:
    """Photon events of whole frames: each array has an entry per event, ordered by frame, then by pixel.

    No two events share frame and pixel.
    """

    frame: NDArray[np.uint32]
    """In the file, from 0."""
    pixel: NDArray[np.uint32]
    """row * columns + column."""
    count: NDArray[np.uint16]
    """At least 1."""


@dataclass(frozen=True)
class TimedEvents:
    """Photon events of whole frames, ordered by frame, then by pixel: each array has an entry per event."""

    time: NDArray[np.int32]
    """The (averaged) frame that it counts for, from 0; -1 if it is in none of those selected."""
    pixel: NDArray[np.uint32]
    count: NDArray[np.uint16]
    frames: int
    """In the file, up to and with that of the last event."""


class Raw(Protocol):
    """An open raw file (or a set of them)."""

    @property
    def path(self) -> Path: ...
    @property
    def files(self) -> tuple[Path, ...]:
        """All files that it consists of; their contents decide the result."""

    @property
    def frames(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...


@runtime_checkable
class DenseRaw(Raw, Protocol):
    """Frames that are stored whole."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one pixel: an unsigned or signed integer, or float32."""

    def read(self, frames: slice, out: Counts) -> None:
        """Fill `out`, (frames, rows, columns) of `dtype`, with these frames (start, stop and step are all given).

        Raises:
            ScanTruncated: if they cannot be read.
        """


@runtime_checkable
class SparseRaw(Raw, Protocol):
    """Photon events."""

    def events(self, first: int, stop: int, *, size: int) -> Iterator[Events]:
        """The events of frames ``first`` to ``stop - 1``, in batches of whole frames of about `size` events.

        The arrays belong to who asks for them.

        Raises:
            ScanTruncated, EventsInvalid: if the file is not what it should be, naming where in it.
        """
