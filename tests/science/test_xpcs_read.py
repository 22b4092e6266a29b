from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from numpy.typing import NDArray

from orchestration.science import errors
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


@pytest.mark.parametrize("name", ["a.bin", "a.bin.000", "a.imm", "a.h5", "a"])
def test_empty_and_missing_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(errors.ScanMissing, match="No such file"):
        opened(path)
    for number in range(6):
        (tmp_path / f"a.bin.00{number}").touch()
    path.touch()
    with pytest.raises(errors.ScanEmpty, match="zero bytes"):
        opened(path)


def test_folder_and_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(errors.ScanMissing):
        opened(tmp_path)
    (tmp_path / "a.dat").write_bytes(rng().bytes(5000))
    with pytest.raises(errors.FormatUnknown, match="neither HDF5 nor IMM"):
        opened(tmp_path / "a.dat")


def grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(words(99, 1, 1).tobytes())


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def changed_and_read(raw: Raw, change: Callable[[Path], None]) -> None:
    change(raw.path)
    read(raw)


@pytest.mark.parametrize("name", ["a.bin", "b.bin.000", "a.imm", "s.imm", "a.h5"])
@pytest.mark.parametrize("change", [grow, touch])
def test_file_that_changes_while_it_is_read(tmp_path: Path, name: str, change: Callable[[Path], None]) -> None:
    path = tmp_path / name
    frames = movie(4, SMALL)
    words([0, 1], 1, 1).tofile(tmp_path / "a.bin")
    for number in range(6):
        words([0, 1], 1, 1).tofile(tmp_path / f"b.bin.00{number}")
    (tmp_path / "a.imm").write_bytes(imm_dense(frames))
    (tmp_path / "s.imm").write_bytes(imm_sparse(frames))
    nexus(tmp_path / "a.h5", frames)
    with ExitStack() as stack:
        raw = stack.enter_context(open_raw(path))
        read(raw)
        change(raw.files[-1])
        if isinstance(raw, SparseRaw):
            with pytest.raises(errors.ScanStillOpen, match="while it was read"):
                read(raw)
        with pytest.raises(errors.ScanStillOpen, match="while it was read"):
            stack.close()


def test_an_error_while_reading_is_not_hidden_by_a_change(tmp_path: Path) -> None:
    words([1, 0], 1, 1).tofile(tmp_path / "a.bin")
    with pytest.raises(errors.EventsInvalid), open_raw(tmp_path / "a.bin") as raw:
        changed_and_read(raw, grow)


def test_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    some_words(1000, frames=10).tofile(path)
    with pytest.raises(errors.ScanTruncated, match="too early"), open_raw(path) as raw:
        changed_and_read(raw, lambda path: os.truncate(path, 4000))


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


def nexus(path: Path, frames: Movie, name: str = "entry/data/data", **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=frames, **options)
    return path


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i4", "u4", "f4", ">f4", "f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_nexus_of_any_numbers(tmp_path: Path, dtype: str, compressed: bool) -> None:
    frames = movie(6, SMALL).astype(dtype)
    options = {"chunks": (1, *SMALL), **hdf5plugin.Bitshuffle(cname="lz4")} if compressed else {}
    path = nexus(tmp_path / "a.bin.h5", frames, **options)
    with open_raw(path) as raw:
        assert isinstance(raw, DenseRaw)
        assert not isinstance(raw, SparseRaw)
        assert (raw.frames, raw.rows, raw.columns, raw.files) == (6, *SMALL, (path,))
        assert raw.dtype == ("f4" if "f" in dtype else np.dtype(dtype).newbyteorder("="))
        assert np.array_equal(read(raw), frames)
        out = np.zeros((2, *SMALL), dtype=raw.dtype)
        raw.read(slice(1, 6, 3), out)
        assert np.array_equal(out, frames[1:6:3])


def test_nexus_whose_frames_lie_in_another_file(tmp_path: Path) -> None:
    frames = movie(6, SMALL)
    (tmp_path / "raw").mkdir()
    data = nexus(tmp_path / "raw" / "data.h5", frames)
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("raw/data.h5", "/entry/data/data")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file["entry/data"] = h5py.ExternalLink("raw/data.h5", "/entry/data")
    for name in ("whole.h5", "group.h5"):
        with open_raw(tmp_path / name) as raw:
            assert raw.files == (tmp_path / name, data)
            assert np.array_equal(read(raw), frames)
    content = data.read_bytes()
    for wrong, kind in ((content[:-1], errors.ScanTruncated), (b"", errors.ScanEmpty), (b"no", errors.NotHdf5)):
        data.write_bytes(wrong)
        with pytest.raises(kind, match=r"raw/data\.h5"):
            opened(tmp_path / "whole.h5")
    data.unlink()
    for name in ("whole.h5", "group.h5"):
        with pytest.raises(errors.ScanMissing, match=r"raw/data\.h5 with the frames is missing"):
            opened(tmp_path / name)


def test_nexus_of_several_files_of_which_one_is_missing(tmp_path: Path) -> None:
    frames = movie(6, SMALL)
    layout = h5py.VirtualLayout((6, *SMALL), dtype=frames.dtype)
    for part in range(2):
        nexus(tmp_path / f"part{part}.h5", frames[3 * part : 3 * part + 3])
        layout[3 * part : 3 * part + 3] = h5py.VirtualSource(f"part{part}.h5", "entry/data/data", (3, *SMALL))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("entry/data/data", layout)
    with open_raw(tmp_path / "a.h5") as raw:
        assert len(raw.files) == 3
        assert np.array_equal(read(raw), frames)
    (tmp_path / "part1.h5").unlink()
    with pytest.raises(errors.ScanMissing, match=r"part1\.h5 with some of the frames"):
        opened(tmp_path / "a.h5")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_truncated_nexus(tmp_path: Path, share: float) -> None:
    path = nexus(tmp_path / "a.h5", movie(50, SMALL))
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(errors.ScanTruncated):
        opened(path)


def test_nexus_with_a_damaged_frame(tmp_path: Path) -> None:
    path = nexus(tmp_path / "a.h5", movie(8, SMALL), chunks=(1, *SMALL), fletcher32=True)
    with h5py.File(path) as file:
        place = file["entry/data/data"].id.get_chunk_info(5).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(errors.ScanTruncated, match="cannot be read"):
        opened(path)


def test_nexus_that_is_still_written(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    program = (
        "import h5py, os, sys\n"
        "file = h5py.File(sys.argv[1], 'w', libver='latest')\n"
        "file.create_dataset('entry/data/data', (3, 4, 5), chunks=(1, 4, 5), maxshape=(None, 4, 5))\n"
        "file.swmr_mode = True; file.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    with pytest.raises(errors.ScanStillOpen):
        opened(path)


@pytest.mark.parametrize(
    ("frames", "name", "kind"),
    [
        (movie(2, SMALL), "entry/data/other", errors.FormatUnknown),
        (movie(2, SMALL), "entry/data/data/inner", errors.FormatUnknown),
        (movie(2, SMALL)[0], "entry/data/data", errors.ShapeMismatch),
        (movie(0, SMALL), "entry/data/data", errors.ShapeMismatch),
        (movie(2, SMALL).astype("S3"), "entry/data/data", errors.ShapeMismatch),
    ],
)
def test_nexus_without_frames(tmp_path: Path, frames: Movie, name: str, kind: type[errors.ScanUnreadable]) -> None:
    with pytest.raises(kind, match="/entry/data/data"):
        opened(nexus(tmp_path / "a.h5", frames, name))


def test_frames_that_are_not_finite(tmp_path: Path) -> None:
    frames = movie(5, SMALL).astype("f4")
    frames[3, 2, 1] = np.nan
    with pytest.raises(errors.FramesNotFinite, match="frame 3"):
        opened(nexus(tmp_path / "a.h5", frames))
