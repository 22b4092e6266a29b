"""What is known before a correlation begins, and that nobody writes to its raw data any more."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest
from xpcs_bench import Bench, make

from orchestration.science.errors import (
    MetadataMissing,
    QmapInvalid,
    RawUnsettled,
    ScanMissing,
    ScanStillOpen,
    ScanTruncated,
)
from orchestration.science.xpcs.checking import check
from orchestration.science.xpcs.cli import xpcs
from orchestration.science.xpcs.correlate import Request
from orchestration.science.xpcs.movie import MovieDescription

DESCRIPTION = MovieDescription(rows=24, columns=24, frames=64, photons=0.3, seed=2)
HOUR = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A measurement of an hour ago."""
    found = make(tmp_path, DESCRIPTION, rings=2, beamstop=2.0)
    for path in tmp_path.iterdir():
        aged(path, HOUR)
    return found


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@contextmanager
def written_to(path: Path, words: bytes = b"more") -> Iterator[None]:
    """Again and again, by somebody else."""
    os.utime(path)
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.02):
            with path.open("ab") as file:
                file.write(words)
            os.utime(path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


def request(bench: Bench) -> Request:
    return Request(raw=bench.raw, qmap=bench.qmap, out=bench.folder / "out")


def run(bench: Bench, *more: str) -> None:
    words = ["check", "-r", str(bench.raw), "-q", str(bench.qmap), "-o", str(bench.folder / "out"), *more]
    xpcs.main(args=words, standalone_mode=False)


def test_it_says_what_would_be_done_and_that_the_files_have_settled(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    run(bench, "-a", "2", "--settle", "60")
    assert time.monotonic() - began < 30.0
    told = json.loads(capsys.readouterr().out)
    run_dry = ["correlate", "-n", "-r", str(bench.raw), "-q", str(bench.qmap), "-o", str(bench.folder / "out")]
    xpcs.main(args=[*run_dry, "-a", "2"], standalone_mode=False)
    assert told.pop("settled") is True
    assert told.pop("files") == [str(bench.raw), str(bench.folder / "a_metadata.hdf")]
    assert told == json.loads(capsys.readouterr().out)
    assert told["frames"] == 32
    assert not (bench.folder / "out").exists()


@pytest.mark.parametrize("name", ["a.h5", "a_metadata.hdf"])
def test_what_was_written_a_moment_ago_is_looked_at_again(bench: Bench, name: str) -> None:
    aged(bench.folder / name, 0.0)
    began = time.monotonic()
    assert check(request(bench), settle=0.3)["settled"] is True
    assert time.monotonic() - began >= 0.25


@pytest.mark.parametrize(("name", "match"), [("a.h5", r"a\.h5 is still .* bytes, then"), ("a_metadata.hdf", "a_meta")])
def test_what_grows_in_between_is_not_settled(bench: Bench, name: str, match: str) -> None:
    with written_to(bench.folder / name), pytest.raises(RawUnsettled, match=match) as raised:
        check(request(bench), settle=0.5)
    assert raised.value.where == str(bench.folder / name)


def test_frames_in_another_file_must_have_settled_too(bench: Bench) -> None:
    other = bench.folder / "frames.bin"
    bench.raw.rename(other)
    with h5py.File(bench.raw, "w") as file:
        file["entry/data/data"] = h5py.ExternalLink("frames.bin", "/entry/data/data")
    aged(bench.raw, HOUR)
    aged(other, 0.0)
    # Whichever notices first: who looks at the files, or who reads them.
    with written_to(other, b""), pytest.raises((RawUnsettled, ScanStillOpen)) as raised:
        check(request(bench), settle=0.5)
    assert raised.value.where == str(other)


def test_half_a_file_is_told_from_one_that_is_still_written(bench: Bench) -> None:
    os.truncate(bench.raw, bench.raw.stat().st_size // 2)
    aged(bench.raw, HOUR)
    with pytest.raises(ScanTruncated):
        check(request(bench), settle=5.0)


def test_what_correlate_refuses_is_refused(bench: Bench) -> None:
    make_other = MovieDescription(rows=24, columns=32, frames=64)
    folder = bench.folder / "other"
    folder.mkdir()
    other = make(folder, make_other, rings=2)
    with pytest.raises(QmapInvalid, match="24 x 32"):
        check(Request(raw=bench.raw, qmap=other.qmap, out=bench.folder), settle=0.0)
    (bench.folder / "a_metadata.hdf").unlink()
    with pytest.raises(MetadataMissing):
        check(request(bench), settle=0.0)
    with pytest.raises(ScanMissing):
        check(Request(raw=bench.folder / "none" / "a.h5", qmap=bench.qmap, out=bench.folder), settle=0.0)
