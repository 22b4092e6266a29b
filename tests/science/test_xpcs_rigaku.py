"""Photon events of Rigaku's detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from xpcs_raw import (
    decoded,
    opened,
    read,
    rng,
    some_words,
    words,
)

from orchestration.science import errors
from orchestration.science.xpcs.frames import DenseRaw, SparseRaw
from orchestration.science.xpcs.read import open_raw
from orchestration.science.xpcs.rigaku import FRAMES, open_500k


@pytest.mark.parametrize("size", [1, 7, 300, 10**6])
@pytest.mark.parametrize("offset", [0, 1024 * 1024])
def test_500k_is_what_its_bits_say(tmp_path: Path, size: int, offset: int) -> None:
    stored = some_words(2000, frames=12)
    path = tmp_path / "a.bin"
    (stored + np.uint64(offset << 16)).tofile(path)
    expected = decoded(stored, frames=12)
    with open_raw(path) as raw:
        assert isinstance(raw, SparseRaw)
        assert not isinstance(raw, DenseRaw)
        assert (raw.path, raw.files) == (path, (path,))
        assert (raw.frames, raw.rows, raw.columns) == (12, 512, 1024)
        assert np.array_equal(read(raw, size=size), expected)
        assert np.array_equal(read(raw, first=3, stop=8, size=size), expected[3:8])


def test_bits_that_mean_nothing_are_ignored(tmp_path: Path) -> None:
    stored = words([0, 1], [5, 6], [3, 4])
    noise = np.uint64(0b1111 << 12 | 0b111 << 37)
    (stored | noise).tofile(tmp_path / "a.bin")
    with open_raw(tmp_path / "a.bin") as raw:
        assert np.array_equal(read(raw), decoded(stored, frames=2))


def test_large_counts_and_empty_frames_are_kept(tmp_path: Path) -> None:
    words([2, 2, 900], [512 * 1024 - 1, 7, 0], [256, 4095, 1]).tofile(tmp_path / "a.bin")
    with open_raw(tmp_path / "a.bin") as raw:
        assert isinstance(raw, SparseRaw)
        assert raw.frames == 901
        batch = next(raw.events(0, 901, size=100))
        assert batch.frame.tolist() == [2, 2, 900]
        assert batch.pixel.tolist() == [7, 512 * 1024 - 1, 0]
        assert batch.count.tolist() == [4095, 256, 1]
        assert not list(raw.events(3, 900, size=100))


def test_of_a_pixel_that_comes_twice_in_a_frame_the_last_counts(tmp_path: Path) -> None:
    words(0, [9, 4, 9, 4, 9], [1, 2, 3, 4, 5]).tofile(tmp_path / "a.bin")
    with open_raw(tmp_path / "a.bin") as raw:
        assert isinstance(raw, SparseRaw)
        (batch,) = raw.events(0, 1, size=10)
        assert (batch.pixel.tolist(), batch.count.tolist()) == ([4, 9], [4, 5])


@pytest.fixture
def six(tmp_path: Path) -> tuple[Path, list[NDArray[np.uint64]]]:
    """The files of a 3M, some of which end earlier than others."""
    stored = []
    for number in range(6):
        frame = np.sort(rng().integers(0, 4 + number % 3, 400 * (number + 1)))
        pixel = np.random.default_rng(number).permutation(512 * 1024)[: len(frame)]
        stored.append(words(frame, pixel, number + 1))
        stored[-1].tofile(tmp_path / f"b.bin.00{number}")
    return tmp_path / "b.bin.000", stored


@pytest.mark.parametrize("size", [1, 500, 10**6])
def test_3m_is_put_together_of_six_files(six: tuple[Path, list[NDArray[np.uint64]]], size: int) -> None:
    path, stored = six
    expected = np.zeros((6, 1676, 2100), dtype=np.uint16)
    for place, number in enumerate((5, 0, 4, 1, 3, 2)):
        top, left = place // 2 * (512 + 70), place % 2 * (1024 + 52)
        expected[:, top : top + 512, left : left + 1024] = decoded(stored[number], frames=6)
    with open_raw(path) as raw:
        assert (raw.frames, raw.rows, raw.columns) == (6, 1676, 2100)
        assert [file.name for file in raw.files] == [f"b.bin.00{number}" for number in range(6)]
        assert np.array_equal(read(raw, size=size), expected)
        assert np.array_equal(read(raw, first=2, stop=4, size=size), expected[2:4])


def test_a_missing_one_of_six_is_named(six: tuple[Path, list[NDArray[np.uint64]]]) -> None:
    path = six[0]
    path.with_name("b.bin.003").unlink()
    with pytest.raises(errors.ScanMissing, match=r"b\.bin\.003"):
        opened(path)
    with pytest.raises(errors.FormatUnknown, match=r"Next: give b\.bin\.000"):
        opened(path.with_name("b.bin.004"))


@pytest.mark.parametrize(
    ("frame", "pixel", "count", "what"),
    [
        ([0, 2, 1, 3], [1, 2, 3, 4], [1, 1, 1, 1], r"frame 1 is out of order .*byte 16, frame 1"),
        ([0, 1, 1, 3], [1, 2, 512 * 1024, 4], [1, 1, 1, 1], r"pixel 524288 lies outside .*byte 16, frame 1"),
        ([0, 1, 1, 3], [1, 2, 1024 * 1024 + 2, 4], [1, 1, 1, 1], r"pixel 1048578 lies outside .*byte 16, frame 1"),
        ([0, 1, 1, 3], [1024 * 1024, 1024 * 1024, 2, 1], [1, 1, 1, 1], r"pixel 2 lies outside .*byte 16, frame 1"),
        ([0, 1, 1, 3], [1, 2, 3, 4], [1, 1, 0, 1], r"no photon .*byte 16, frame 1"),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_events_that_cannot_be(
    tmp_path: Path, frame: list[int], pixel: list[int], count: list[int], what: str, size: int
) -> None:
    path = tmp_path / "a.bin"
    words(frame, pixel, count).tofile(path)
    with pytest.raises(errors.EventsInvalid, match=what), open_raw(path) as raw:
        read(raw, size=size)


@pytest.mark.parametrize("size", [1, 2, 50])
def test_the_last_frame_that_an_event_can_name_is_read(tmp_path: Path, size: int) -> None:
    last = FRAMES - 1
    words([0, last - 1, last, last], [1, 2, 3, 4], 5).tofile(tmp_path / "a.bin")
    with open_raw(tmp_path / "a.bin") as raw:
        assert raw.frames == FRAMES
        assert isinstance(raw, SparseRaw)
        found = list(raw.events(0, FRAMES, size=size))
    assert np.concatenate([events.frame for events in found]).tolist() == [0, last - 1, last, last]


def test_a_file_that_ends_in_ones_is_refused(tmp_path: Path) -> None:
    """As flash memory has them where nothing was written."""
    (tmp_path / "a.bin").write_bytes(words([0, 1], [1, 2], 5).tobytes() + b"\xff" * 800)
    with open_500k(tmp_path / "a.bin") as raw:
        events = raw.events(0, raw.frames, size=1000)
        with pytest.raises(errors.EventsInvalid, match="lies outside"):
            next(events)


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_frames_in_any_disorder_are_refused_and_never_waited_for(tmp_path: Path, size: int) -> None:
    for seed in range(30):
        frame = np.random.default_rng(seed).integers(0, 6, 12)
        if (np.diff(frame) >= 0).all():
            continue
        words(frame, np.arange(12), 1).tofile(tmp_path / "a.bin")
        with pytest.raises(errors.EventsInvalid), open_raw(tmp_path / "a.bin") as raw:
            read(raw, size=size)


def test_half_an_event(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\1" * 12)
    with pytest.raises(errors.ScanTruncated, match="12 bytes"):
        opened(tmp_path / "a.bin")
