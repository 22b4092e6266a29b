"""Rows of a two-time function as a stream of LZF, which HDF5's filter of that name unpacks.

What is computed of such a function is noise down to its last bits: nothing but the zeros below its diagonal becomes
smaller, and a packer that searches for more takes as long as the products themselves. Where the zeros are is known.

A stream is a series of two things (liblzf 3.6, lzf_d.c): a byte c below 32, then c + 1 bytes as they are; or
``(n - 2) << 5 | high`` and the low byte of d - 1 for n bytes, 3 to 8, that are the same as those d before; for 9 to 264
bytes the three bits are 7, and a byte n - 9 comes before the low one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.threads import in_threads

_LITERAL = 32
_RUN = 264
_TOUCHED = 0.01
"""The share of zeros above the diagonal from which a search pays: there are few photons, and values repeat."""

Float32 = NDArray[np.float32]


def suits(first: int, rows: Float32) -> bool:
    """Whether `rows` hardly have zeros from their diagonals on; the row `first` stands for all of them."""
    line = rows[0, first:]
    return bool(np.count_nonzero(line == 0) <= _TOUCHED * len(line))


def pack(first: int, rows: Float32, *, height: int) -> NDArray[np.uint8]:
    """The stream of a chunk of `height` rows of which those of `rows` are the first, and zeros the others.

    Args:
        first: the number of the first row in its function.
        rows: (n, frames); the values below the diagonal are taken for zeros without a look.
        height: at least n.
    """
    count, frames = rows.shape
    zeros = 4 * np.minimum(first + np.arange(count), frames)
    sizes = _size_of_zeros(zeros) + _size_of_values(4 * frames - zeros)
    ends = np.cumsum(sizes)
    rest = 4 * frames * (height - count)
    stream = np.empty(ends[-1] + _size_of_zeros(np.array([rest]))[0], dtype=np.uint8)
    values = np.ascontiguousarray(rows).view(np.uint8)
    in_threads(count, lambda low, high: _pack_rows(low, high, values, zeros, ends - sizes, stream))
    _pack_zeros(rest, stream, ends[-1])
    return stream


def _size_of_zeros(zeros: NDArray[np.int64]) -> NDArray[np.int64]:
    """One is written as it is, the others are the same as that."""
    runs, rest = np.divmod(np.maximum(zeros - 1, 0), _RUN)
    # Fewer than three are written as they are, too; from nine on a byte more tells how many.
    short = np.where(rest >= 9, 3, np.where(rest >= 3, 2, np.where(rest > 0, rest + 1, 0)))
    size: NDArray[np.int64] = np.where(zeros > 0, 2 + 3 * runs + short, 0)
    return size


def _size_of_values(size: NDArray[np.int64]) -> NDArray[np.int64]:
    return size + -(-size // _LITERAL)


@compiled()
def _pack_rows(low, high, values, zeros, starts, stream):  # type: ignore[no-untyped-def]
    for row in range(low, high):
        at = _pack_zeros(zeros[row], stream, starts[row])
        line = values[row]
        place, stop = zeros[row], len(line)
        while place + _LITERAL <= stop:
            stream[at] = _LITERAL - 1
            for i in range(_LITERAL):
                stream[at + 1 + i] = line[place + i]
            place += _LITERAL
            at += 1 + _LITERAL
        if place < stop:
            stream[at] = stop - place - 1
            for i in range(stop - place):
                stream[at + 1 + i] = line[place + i]


@compiled()
def _pack_zeros(count, stream, at):  # type: ignore[no-untyped-def]
    """Where the stream goes on."""
    if count == 0:
        return at
    stream[at], stream[at + 1] = 0, 0
    at += 2
    left = count - 1
    while left >= _RUN:
        stream[at], stream[at + 1], stream[at + 2] = 0xE0, _RUN - 9, 0
        at += 3
        left -= _RUN
    if left >= 9:
        stream[at], stream[at + 1], stream[at + 2] = 0xE0, left - 9, 0
        at += 3
    elif left >= 3:
        stream[at], stream[at + 1] = (left - 2) << 5, 0
        at += 2
    elif left > 0:
        stream[at] = left - 1
        stream[at + 1 : at + 1 + left] = 0
        at += 1 + left
    return at
