"""Photon events as 64-bit words, 24 bits of frame, 24 of pixel and 16 of count: so they are checked, sorted and merged.

That is the layout of Rigaku's files, in which the pixel has 21 bits and the count 12.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.frames import Events

Words = NDArray[np.uint64]

FRAME_SHIFT = np.uint64(40)
PIXEL_SHIFT = np.uint64(16)
PIXEL_MASK = np.uint64(0xFFFFFF)
COUNT_MASK = np.uint64(0xFFFF)

PIXELS = 1 << 24
"""More than so many pixels do not fit."""

_SHORT = 48
"""Events of a frame up to which insertion is the faster way to sort."""
_ZERO = np.uint64(0)
_BYTE = np.uint64(0xFF)
_RUN_OUT = np.uint64(0xFFFFFFFFFFFFFFFF)


def pack(frame: NDArray[np.uint32], pixel: NDArray[np.uint32], count: NDArray[np.uint16], *, base: int = 0) -> Words:
    """The words of events; `base` is taken from each frame."""
    words: Words = (frame.astype(np.uint64) - np.uint64(base)) << FRAME_SHIFT
    words |= pixel.astype(np.uint64) << PIXEL_SHIFT
    words |= count
    return words


def unpack(words: Words, *, base: int = 0) -> Events:
    """The events of words that are sorted by frame and pixel; of those of one pixel in a frame the last one counts.

    Args:
        words: (n,).
        base: is added to each frame.
    """
    frame = np.empty(len(words), dtype=np.uint32)
    pixel = np.empty(len(words), dtype=np.uint32)
    count = np.empty(len(words), dtype=np.uint16)
    kept = _unpack(words, base, frame, pixel, count)
    return Events(frame=frame[:kept], pixel=pixel[:kept], count=count[:kept])


@compiled()
def _unpack(words, base, frame, pixel, count):  # type: ignore[no-untyped-def]
    kept = 0
    last = _RUN_OUT
    for word in words:
        key = word >> PIXEL_SHIFT
        if key == last:
            kept -= 1
        last = key
        frame[kept] = base + np.int64(word >> FRAME_SHIFT)
        pixel[kept] = key & PIXEL_MASK
        count[kept] = word & COUNT_MASK
        kept += 1
    return kept


def sort_frames(words: Words, spare: Words) -> None:
    """Sort the events of each frame by pixel, in place and stably; `words` are sorted by frame, `spare` is as long."""
    _sort_frames(words, spare, np.empty(257, dtype=np.int64))


@compiled()
def _sort_frames(words, spare, places):  # type: ignore[no-untyped-def]
    start = 0
    for i in range(1, len(words) + 1):
        if i == len(words) or words[i] >> FRAME_SHIFT != words[start] >> FRAME_SHIFT:
            if i - start <= _SHORT:
                _insert(words[start:i])
            else:
                _radix(words[start:i], spare[start:i], places)
            start = i


@compiled()
def _insert(words):  # type: ignore[no-untyped-def]
    for i in range(1, len(words)):
        word = words[i]
        at = i
        while at > 0 and words[at - 1] >> PIXEL_SHIFT > word >> PIXEL_SHIFT:
            words[at] = words[at - 1]
            at -= 1
        words[at] = word


@compiled()
def _radix(words, spare, places):  # type: ignore[no-untyped-def]
    """Three times by eight bits of the pixel, from the lowest."""
    source, target = words, spare
    for turn in range(3):
        shift = np.uint64(16 + 8 * turn)
        places[:] = 0
        for word in source:
            places[np.int64((word >> shift) & _BYTE) + 1] += 1
        for i in range(256):
            places[i + 1] += places[i]
        for word in source:
            digit = np.int64((word >> shift) & _BYTE)
            target[places[digit]] = word
            places[digit] += 1
        source, target = target, source
    for i in range(len(words)):
        words[i] = spare[i]


def merge(words: Words, bounds: NDArray[np.int64], out: Words) -> None:
    """Merge sorted runs, ``words[bounds[k] : bounds[k + 1]]``, into `out`; no two have a pixel of a frame in common."""
    _merge(words, bounds, np.empty(len(bounds) - 1, dtype=np.uint64), bounds[:-1].copy(), out)


@compiled()
def _merge(words, bounds, heads, places, out):  # type: ignore[no-untyped-def]
    for run in range(len(heads)):
        heads[run] = words[places[run]] if places[run] < bounds[run + 1] else _RUN_OUT
    for i in range(len(out)):
        least = 0
        for run in range(1, len(heads)):
            if heads[run] < heads[least]:
                least = run
        out[i] = heads[least]
        places[least] += 1
        heads[least] = words[places[least]] if places[least] < bounds[least + 1] else _RUN_OUT
