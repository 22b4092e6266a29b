"""Raw files of every format, made byte by byte, and all that is read of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.frames import DenseRaw, Raw, SparseRaw
from orchestration.science.xpcs.read import open_raw

Movie = NDArray[Any]
"""(frames, rows, columns)."""

IMM = "ii32s16si16siiiiiiiiiiiiiddiiIiiI" + 10 * "40sf" + "ffiiifc295s84s12s"
"""All fields of the header, as its authors list them."""
ROWS, COLUMNS, COMPRESSION, BYTES, VALUES = 14, 15, 1, 16, 23
SMALL = (9, 14)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def movie(frames: int, shape: tuple[int, int], *, photons: float = 0.3) -> Movie:
    return rng().poisson(photons, (frames, *shape)).astype(np.uint16)


def words(frame: Any, pixel: Any, count: Any) -> NDArray[np.uint64]:
    parts = (np.asarray(part).astype(np.uint64) for part in (frame, pixel, count))
    f, p, c = np.broadcast_arrays(*parts)
    return np.asarray(f << np.uint64(40) | p << np.uint64(16) | c, dtype=np.uint64)


def some_words(events: int, *, frames: int) -> NDArray[np.uint64]:
    """In the order of their frames, and in none within them; a few pixels come twice in a frame."""
    frame = np.sort(rng().integers(0, frames, events))
    return words(frame, rng().integers(0, 512 * 1024, events) // 64 * 64, rng().integers(1, 4096, events))


def decoded(stored: NDArray[np.uint64], *, frames: int, offset: int = 0) -> Movie:
    """One 500k, event by event."""
    found = np.zeros((frames, 512 * 1024), dtype=np.uint16)
    for word in stored.tolist():
        found[word >> 40, (word >> 16 & (1 << 21) - 1) - offset] = word & (1 << 12) - 1
    return found.reshape(frames, 512, 1024)


def imm_frame(shape: tuple[int, int], values: int, payload: bytes, *, compression: int = 0) -> bytes:
    fields: list[Any] = [b"" if code.endswith(("s", "c")) else 0 for code in _codes(IMM)]
    fields = [b"\0" if code.endswith("c") else value for code, value in zip(_codes(IMM), fields, strict=True)]
    fields[COMPRESSION], fields[ROWS], fields[COLUMNS], fields[BYTES], fields[VALUES] = compression, *shape, 2, values
    return struct.pack(IMM, *fields) + payload


def _codes(layout: str) -> list[str]:
    codes, digits = [], ""
    for letter in layout:
        if letter.isdigit():
            digits += letter
        else:
            codes.append(digits + letter)
            digits = ""
    return codes


def imm_dense(frames: Movie) -> bytes:
    return b"".join(imm_frame(frame.shape, frame.size, frame.astype("<u2").tobytes()) for frame in frames)


def imm_sparse(frames: Movie, *, shuffle: bool = False) -> bytes:
    content = b""
    for frame in frames:
        pixel = np.flatnonzero(frame)
        if shuffle:
            pixel = rng().permutation(pixel)
        payload = pixel.astype("<i4").tobytes() + frame.ravel()[pixel].astype("<i2").tobytes()
        content += imm_frame(frame.shape, len(pixel), payload, compression=6)
    return content


def read(raw: Raw, *, first: int = 0, stop: int | None = None, size: int = 1000) -> Movie:
    """All frames of this range, by what the seam promises of events."""
    stop = raw.frames if stop is None else stop
    if isinstance(raw, DenseRaw):
        out = np.empty((stop - first, raw.rows, raw.columns), dtype=raw.dtype)
        raw.read(slice(first, stop, 1), out)
        return out
    assert isinstance(raw, SparseRaw)
    found = np.zeros((stop - first, raw.rows * raw.columns), dtype=np.uint16)
    latest = -1
    for events in raw.events(first, stop, size=size):
        assert [part.dtype.str for part in (events.frame, events.pixel, events.count)] == ["<u4", "<u4", "<u2"]
        assert len(events.frame) == len(events.pixel) == len(events.count)
        key = events.frame.astype(np.int64) << 24 | events.pixel
        assert (np.diff(key) > 0).all()
        assert (events.count > 0).all()
        if len(key):
            # Frames are whole in a batch.
            assert events.frame[0] > latest
            latest = int(events.frame[-1])
        found[events.frame - first, events.pixel] = events.count
    return found.reshape(stop - first, raw.rows, raw.columns)


def opened(path: Path) -> None:
    with open_raw(path) as raw:
        read(raw)


def nexus(path: Path, frames: Movie, name: str = "entry/data/data", **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=frames, **options)
    return path
