"""Reading raw files of whichever format: what is not there, not whole, or changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from xpcs_raw import (
    SMALL,
    imm_dense,
    imm_sparse,
    movie,
    nexus,
    opened,
    read,
    rng,
    some_words,
    words,
)

from orchestration.science import errors
from orchestration.science.xpcs.frames import Raw, SparseRaw
from orchestration.science.xpcs.read import open_raw


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
