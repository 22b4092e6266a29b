"""Frames of NeXus files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from xpcs_raw import (
    SMALL,
    Movie,
    movie,
    nexus,
    opened,
    read,
)

from orchestration.science import errors
from orchestration.science.xpcs.frames import DenseRaw, SparseRaw
from orchestration.science.xpcs.read import open_raw


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


@pytest.mark.parametrize("way", ["link", "symbolic link", "virtual"])
def test_nexus_takes_no_frames_from_outside_its_folder(tmp_path: Path, way: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "mine").mkdir()
    secret, path = tmp_path / "secret" / "data.h5", tmp_path / "mine" / "movie.h5"
    with h5py.File(secret, "w") as file:
        file["entry/data/data"] = np.ones((4, 3, 2), np.uint16)
    with h5py.File(path, "w") as file:
        if way == "virtual":
            layout = h5py.VirtualLayout(shape=(4, 3, 2), dtype=np.uint16)
            layout[:] = h5py.VirtualSource("../secret/data.h5", "entry/data/data", shape=(4, 3, 2))
            file.create_virtual_dataset("entry/data/data", layout)
        else:
            (tmp_path / "mine" / "linked.h5").symlink_to(secret)
            named = "../secret/data.h5" if way == "link" else "linked.h5"
            file["entry/data/data"] = h5py.ExternalLink(named, "/entry/data/data")
    with pytest.raises(errors.ScanUnreadable, match="is not in the folder of the dataset"), open_raw(path):
        pass


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
