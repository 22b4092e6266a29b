"""Pictures a person can look at: grey values between percentiles, with a scale bar and what they show below."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from orchestration.science.stopping import look

Float32 = NDArray[np.float32]

LARGEST = 1024
"""Pixels of the longer side."""
_CAPTION = 30
_FLATTEST = 16
"""Columns to a row of the flattest image; those of a few detector rows are drawn taller."""
_ROUND = (1.0, 2.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image, what it is called and shows, and micrometres per pixel where its axes are lengths."""

    name: str
    title: str
    image: Float32
    pixel_um: float | None = None
    valid: NDArray[np.bool_] | None = None
    """The pixels that set the contrast; all if absent."""


def write_png(folder: Path, picture: Picture) -> Path:
    """Write ``<name>.png`` and return its path."""
    look()
    image, factor = _reduced(picture.image)
    valid = None if picture.valid is None else picture.valid[::factor, ::factor][: image.shape[0], : image.shape[1]]
    low, high = _contrast(image if valid is None else image[valid])
    grey = (np.clip((image - low) / (high - low), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    if valid is not None:
        grey[~valid] = 0
    stretch = max(1, grey.shape[1] // (_FLATTEST * grey.shape[0]))
    title = picture.title if stretch == 1 else f"{picture.title}  (rows drawn {stretch} times)"
    grey = _enlarged(grey.repeat(stretch, axis=0))
    scale = image.shape[1] / grey.shape[1] * factor
    pixel_um = None if picture.pixel_um is None else picture.pixel_um * scale
    canvas = Image.new("L", (grey.shape[1], grey.shape[0] + _CAPTION), color=16)
    canvas.paste(Image.fromarray(grey), (0, 0))
    _caption(canvas, title, pixel_um)
    path = folder / f"{picture.name}.png"
    canvas.save(path, optimize=True)
    return path


def _reduced(image: Float32) -> tuple[Float32, int]:
    """Averaged down to at most `LARGEST` pixels, by a whole factor."""
    factor = -(-max(image.shape) // LARGEST)
    if factor == 1 or min(image.shape) < factor:
        return image, 1
    height, width = (size // factor * factor for size in image.shape)
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32), factor


def _enlarged(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Small images by whole pixels, so that a caption fits below."""
    factor = max(1, -(-400 // grey.shape[1]))
    return grey.repeat(factor, axis=0).repeat(factor, axis=1)


def _contrast(values: Float32) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.5))
    return float(low), float(high) if high > low else float(low) + 1.0


def _caption(canvas: Image.Image, title: str, pixel_um: float | None) -> None:
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    top = canvas.height - _CAPTION
    room = canvas.width - 16
    if pixel_um is not None:
        length = _bar(canvas.width * pixel_um / 5)
        text = f"{length:g} um" if length < 1000 else f"{length / 1000:g} mm"
        bar = length / pixel_um
        right = canvas.width - 8
        draw.rectangle((right - bar, top + 5, right, top + 7), fill=255)
        draw.text((right - bar / 2, top + 8), text, fill=255, font=font, anchor="ma")
        room -= int(max(bar, draw.textlength(text, font=font))) + 16
    while title and draw.textlength(title, font=font) > room:
        title = title[:-2].rstrip("…") + "…" if len(title) > 2 else ""
    draw.text((8, top + 6), title, fill=220, font=font)


def _bar(longest: float) -> float:
    """The longest round length up to `longest`."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * power for step in _ROUND if step * power <= longest * (1 + 1e-9)))
