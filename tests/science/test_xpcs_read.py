"""Reading raw files of whichever format: what is not there, not whole, or changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
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
from orchestration.science.xpcs import blocks
from orchestration.science.xpcs.blocks import Looks
from orchestration.science.xpcs.frames import Events, FrameRange, Raw, SparseRaw
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


@pytest.mark.parametrize(("memory", "batches"), [(10**6, [5]), (2000, [5, 5]), (0, [5, 5])])
def test_events_are_read_once_if_they_fit_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, batches: list[int]
) -> None:
    """Two batches fit into 2000 bytes; what follows them does not."""
    path, frames = tmp_path / "a.imm", movie(9, SMALL)
    path.write_bytes(imm_sparse(frames))
    monkeypatch.setattr(blocks, "EVENTS_AT_ONCE", 600)
    with open_raw(path) as raw:
        assert isinstance(raw, SparseRaw)
        seen: list[int] = []
        looks = Looks(Counted(raw, seen), FrameRange(first=0, stop=9), memory=memory)
        for _ in range(2):
            found = np.zeros((9, *SMALL))
            for events in looks:
                np.add.at(found.reshape(9, -1), (events.time, events.pixel), events.count)
            np.testing.assert_array_equal(found, frames)
    assert seen == batches


class Counted:
    """A raw file of which each reading is noted, as its number of batches."""

    def __init__(self, raw: SparseRaw, seen: list[int]) -> None:
        self._raw, self._seen = raw, seen
        self.path, self.files = raw.path, raw.files
        self.frames, self.rows, self.columns = raw.frames, raw.rows, raw.columns

    def events(self, first: int, stop: int, *, size: int) -> Iterator[Events]:
        self._seen.append(0)
        for events in self._raw.events(first, stop, size=size):
            self._seen[-1] += 1
            yield events
