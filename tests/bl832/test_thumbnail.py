from __future__ import annotations

import base64
import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from orchestration.errors import InvalidInput, ScanUnreadable
from orchestration.flows.thumbnail import contrast, data_uri, picture_thumbnail, png, projection_thumbnail, shrink


def decode(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
    assert image.format == "PNG"
    image.load()
    return image


def scan(path: Path, data: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Path:
    with h5py.File(path, "w") as file:
        file["/exchange/data"] = data
    return path


def test_another_decoder_reads_the_same_pixels() -> None:
    grey = np.arange(7 * 300, dtype=np.uint32).reshape(7, 300).astype(np.uint8)
    assert np.array_equal(np.asarray(decode(data_uri(png(grey)))), grey)


def test_the_largest_noise_stays_below_what_the_catalogue_takes(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 65535, (1, 2160, 2560), np.uint16)
    uri = projection_thumbnail(scan(tmp_path / "scan.h5", noise))
    assert len(uri) < 1_000_000
    assert decode(uri).size == (512, 432)


def test_dark_and_bright_are_told_apart_although_pixels_are_hot(tmp_path: Path) -> None:
    first = np.full((100, 200), 1000, np.float32)
    first[:, 100:] = 100
    first[0, 0], first[1, 1] = 1e9, np.nan
    uri = projection_thumbnail(scan(tmp_path / "scan.h5", np.stack([first, np.zeros_like(first)])))
    pixels = np.asarray(decode(uri))
    assert pixels.shape == (100, 200)
    assert (pixels[50, 50], pixels[50, 150]) == (255, 0)


@pytest.mark.parametrize("value", [0, 1, -5, 65535, np.nan, np.inf])
def test_an_image_of_one_value_is_an_image(value: float) -> None:
    assert len(np.unique(contrast(np.full((4, 4), value, np.float32)))) == 1


@pytest.mark.parametrize("shape", [(1, 1), (2, 640), (513, 1), (1025, 700), (512, 512)])
def test_any_shape_fits(shape: tuple[int, int]) -> None:
    small = shrink(np.ones(shape, np.uint16))
    assert max(small.shape) <= 512
    assert min(small.shape) >= 1
    assert np.all(small == 1)


def test_a_projection_that_cannot_be_decompressed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("/exchange/data", (1, 8, 8), "u2", chunks=(1, 8, 8), compression="gzip")
        data.id.write_direct_chunk((0, 0, 0), b"not deflated")
    with pytest.raises(ScanUnreadable, match="first projection"):
        projection_thumbnail(path)


def test_a_preview_is_taken_as_it_is(tmp_path: Path) -> None:
    preview = tmp_path / "slice.png"
    preview.write_bytes(png(np.eye(9, dtype=np.uint8)))
    assert decode(picture_thumbnail(preview)).size == (9, 9)


def test_a_large_preview_is_made_smaller(tmp_path: Path) -> None:
    preview = tmp_path / "slice.png"
    preview.write_bytes(png(np.random.default_rng(2).integers(0, 255, (1500, 1500), np.uint8)))
    uri = picture_thumbnail(preview)
    assert len(uri) < 1_000_000
    assert decode(uri).size == (500, 500)


def test_a_preview_that_is_no_png_or_cut_short_is_refused(tmp_path: Path) -> None:
    preview = tmp_path / "slice.png"
    preview.write_bytes(b"GIF89a")
    with pytest.raises(InvalidInput, match="not a PNG"):
        picture_thumbnail(preview)
    preview.write_bytes(png(np.random.default_rng(2).integers(0, 255, (1500, 1500), np.uint8))[:1_000_000])
    with pytest.raises(InvalidInput, match="not a whole PNG"):
        picture_thumbnail(preview)


@pytest.mark.parametrize("way", ["external link", "virtual dataset", "external storage"])
def test_no_picture_is_made_of_what_lies_in_another_file(tmp_path: Path, way: str) -> None:
    data = np.ones((2, 8, 8), np.uint16)
    secret = scan(tmp_path / "secret.h5", data)
    data.tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        if way == "external link":
            file["/exchange/data"] = h5py.ExternalLink(str(secret), "/exchange/data")
        elif way == "virtual dataset":
            layout = h5py.VirtualLayout(shape=data.shape, dtype=data.dtype)
            layout[:] = h5py.VirtualSource(str(secret), "/exchange/data", shape=data.shape)
            file.create_virtual_dataset("/exchange/data", layout)
        else:
            raw = [(str(tmp_path / "secret.bin"), 0, data.nbytes)]
            file.create_dataset("/exchange/data", shape=data.shape, dtype=data.dtype, external=raw)
    with pytest.raises(ScanUnreadable, match="lie in another file"):
        projection_thumbnail(tmp_path / "scan.h5")
