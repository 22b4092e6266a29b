"""Frames and photon events of IMM files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xpcs_raw import (
    SMALL,
    Movie,
    imm_dense,
    imm_frame,
    imm_sparse,
    movie,
    opened,
    read,
)

from orchestration.science import errors
from orchestration.science.xpcs.frames import DenseRaw, SparseRaw
from orchestration.science.xpcs.read import open_raw


@pytest.mark.parametrize("name", ["a.imm", "nameless"])
def test_imm_of_whole_frames(tmp_path: Path, name: str) -> None:
    frames = movie(5, SMALL, photons=40_000)
    (tmp_path / name).write_bytes(imm_dense(frames))
    with open_raw(tmp_path / name) as raw:
        assert isinstance(raw, DenseRaw)
        assert (raw.frames, raw.rows, raw.columns, raw.dtype.str) == (5, *SMALL, "<u2")
        assert np.array_equal(read(raw), frames)
        out = np.zeros((2, *SMALL), dtype=np.uint16)
        raw.read(slice(1, 5, 2), out)
        assert np.array_equal(out, frames[1:5:2])


@pytest.mark.parametrize("size", [1, 60, 10**6])
@pytest.mark.parametrize("shuffle", [False, True])
def test_imm_of_events(tmp_path: Path, size: int, shuffle: bool) -> None:
    # So many in some frames that the longer way of sorting is gone, none in others.
    frames = movie(40, (20, 30)) * (np.arange(40) % 3 > 0)[:, None, None] * np.uint16(300)
    path = tmp_path / "a.imm"
    path.write_bytes(imm_sparse(frames, shuffle=shuffle))
    with open_raw(path) as raw:
        assert isinstance(raw, SparseRaw)
        assert (raw.frames, raw.rows, raw.columns) == (40, 20, 30)
        assert np.array_equal(read(raw, size=size), frames)
        assert np.array_equal(read(raw, first=7, stop=31, size=size), frames[7:31])


def test_events_of_imm_without_a_count_are_none(tmp_path: Path) -> None:
    payload = np.array([3, 5], dtype="<i4").tobytes() + np.array([0, 40_000], dtype="<u2").tobytes()
    (tmp_path / "a.imm").write_bytes(imm_frame(SMALL, 2, payload, compression=6))
    with open_raw(tmp_path / "a.imm") as raw:
        assert isinstance(raw, SparseRaw)
        (events,) = raw.events(0, 1, size=10)
        assert (events.pixel.tolist(), events.count.tolist()) == ([5], [40_000])


@pytest.mark.parametrize("make", [imm_dense, imm_sparse])
@pytest.mark.parametrize("cut", [1, 200])
def test_truncated_imm_names_the_frame(tmp_path: Path, make: Callable[[Movie], bytes], cut: int) -> None:
    frames = movie(4, SMALL)
    frames[3, :, 0] = 1
    path = tmp_path / "a.imm"
    path.write_bytes(make(frames)[:-cut])
    with pytest.raises(errors.ScanTruncated, match="within frame 3"):
        opened(path)
    path.write_bytes(make(frames[:2]) + b"\0" * 100)
    with pytest.raises(errors.ScanTruncated, match="within frame 2"):
        opened(path)


def test_imm_frames_of_another_size_or_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.imm"
    first = imm_dense(movie(2, SMALL))
    for other in (imm_dense(movie(1, (9, 15))), imm_sparse(movie(1, SMALL)), imm_frame(SMALL, 3, b"123456")):
        path.write_bytes(first + other)
        with pytest.raises(errors.ShapeMismatch, match="frame 2 has"):
            opened(path)


def test_imm_in_name_only(tmp_path: Path) -> None:
    (tmp_path / "a.imm").write_bytes(imm_frame(SMALL, 3, b"123456"))
    with pytest.raises(errors.FormatUnknown, match="3 values of 9 x 14 pixels"):
        opened(tmp_path / "a.imm")


@pytest.mark.parametrize("pixel", [9 * 14, -1])
def test_imm_events_outside_the_detector(tmp_path: Path, pixel: int) -> None:
    payload = np.array([0, pixel], dtype="<i4").tobytes() + np.ones(2, dtype="<i2").tobytes()
    content = imm_sparse(movie(3, SMALL)) + imm_frame(SMALL, 2, payload, compression=6)
    (tmp_path / "a.imm").write_bytes(content)
    place = len(content) - 8
    with pytest.raises(errors.EventsInvalid, match=rf"outside the 9 x 14 .*byte {place}, frame 3"):
        opened(tmp_path / "a.imm")
