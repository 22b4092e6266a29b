"""Small pictures of data for people, as data URIs that a catalogue can store."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from orchestration.errors import InvalidInput, ScanUnreadable
from orchestration.flows.hdf5 import open_scan, projections

Image: TypeAlias = npt.NDArray[np.floating | np.integer]

LONGEST_SIDE = 512
"""Pixels; even noise then stays well below the size that a catalogue takes."""

_CUT = 0.1
"""Per cent of the pixels at either end that autocontrast lets saturate: hot and dead ones."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def projection_thumbnail(path: Path) -> str:
    """The first projection of a scan, in logarithm and with full contrast.

    Raises:
        ScanUnreadable: if there is none, or it cannot be decompressed.
    """
    with open_scan(path) as file:
        data = projections(file, path)
        try:
            first = data[0]
        except OSError as error:
            raise ScanUnreadable(
                f"the first projection of {path.name} cannot be read: {error}",
                where=f"{path}:/exchange/data",
                next_step="check that the file is whole, and that the HDF5 filter it was compressed with is installed",
            ) from error
    return data_uri(png(contrast(np.log(_above_zero(shrink(first))))))


def picture_thumbnail(path: Path, *, limit: int = 700_000) -> str:
    """A PNG file as it is, or in grey and smaller if it has more than `limit` bytes.

    Raises:
        InvalidInput: if it is not a PNG file, or too large and there is no imaging library to make it smaller.
    """
    content = path.read_bytes()
    if not content.startswith(_SIGNATURE):
        raise InvalidInput(f"{path.name} is not a PNG file", where=str(path))
    return data_uri(content if len(content) <= limit else _smaller(content, path))


def _smaller(content: bytes, path: Path) -> bytes:
    try:
        from PIL import Image as Picture  # only large pictures need the extra
    except ImportError as error:
        raise InvalidInput(
            f"{path.name} has {len(content)} bytes, too many for a thumbnail",
            where=str(path),
            next_step="install the `science` extra here, which can make it smaller, or write a smaller preview",
        ) from error
    try:
        grey = np.asarray(Picture.open(io.BytesIO(content)).convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInput(f"{path.name} is not a whole PNG file: {error}", where=str(path)) from error
    return png(np.asarray(shrink(grey).round(), dtype=np.uint8))


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def shrink(image: Image, *, longest: int = LONGEST_SIDE) -> npt.NDArray[np.float32]:
    """Means of square blocks, of the size that makes the longer side fit; rows and columns left over are dropped."""
    step = -(-max(image.shape) // longest)
    rows, columns = (max(1, side // step) for side in image.shape)
    high, wide = (min(step, side) for side in image.shape)
    blocks = image[: rows * high, : columns * wide].astype(np.float32).reshape(rows, high, columns, wide)
    finite = np.isfinite(blocks)
    total = np.where(finite, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    count = finite.sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def contrast(image: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Stretched to 0..255; what is not finite becomes black, an image of one value grey."""
    values = image[np.isfinite(image)]
    if values.size == 0:
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(values, (_CUT, 100 - _CUT))
    if high <= low:
        return np.full(image.shape, 128, np.uint8)
    scaled = np.nan_to_num(np.clip((image - low) / (high - low), 0, 1) * 255, nan=0.0)
    return np.asarray(scaled.round(), dtype=np.uint8)


def png(grey: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit greyscale PNG file, written here so that cataloguing needs no imaging library."""
    rows, columns = grey.shape
    lines = np.zeros((rows, columns + 1), np.uint8)  # the first byte of each line names its filter: 0, none
    lines[:, 1:] = grey
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + _chunk(b"IEND", b"")
    return _SIGNATURE + body


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _above_zero(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Shifted so that the darkest pixel has logarithm 0."""
    finite = image[np.isfinite(image)]
    return image - (finite.min() if finite.size else 0) + np.float32(1)
