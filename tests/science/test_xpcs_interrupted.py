"""What a correlation leaves behind that fails, is killed, or is told to stop."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xpcs_bench import Bench, correlating, left, make

from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.parameters import Parameters

LONG = MovieDescription(rows=200, columns=200, frames=2000, photons=0.2)


@contextmanager
def program(bench: Bench, *more: str, limit: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Correlates, and writes no file above so many bytes; it does not outlive the test, should that fail."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = [sys.executable, "-m", "orchestration.science", "xpcs", *map(str, correlating(bench, *more))]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, preexec_fn=limited) as process:
        try:
            yield process
        finally:
            process.kill()


def begun(process: subprocess.Popen[Any], bench: Bench) -> None:
    """Wait until there is a result that is not finished."""
    until = threading.Event()
    while not any((bench.folder / "out").glob(".reconstructing-*/result.hdf")):
        assert process.poll() is None
        until.wait(0.01)


def test_an_error_in_the_middle_of_two_time_functions_leaves_nothing(tmp_path: Path) -> None:
    """boost_corr puts what it has in place, and ends well."""
    bench = make(tmp_path, MovieDescription(rows=40, columns=50, frames=120, photons=0.3), rings=2, sectors=2)
    with program(bench, "-t", "Twotime", "--memory", "1", limit=100_000) as process:
        out, err = process.communicate(timeout=120.0)
    assert process.returncode == 1
    assert out == ""
    assert "cannot be written" in err
    assert left(bench) == []


@pytest.mark.parametrize("limit", range(100_000, 4_000_000, 1_300_000))
def test_a_disk_that_is_full_at_any_moment_is_told_of_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    bench = make(tmp_path, MovieDescription(rows=128, columns=128, frames=200, photons=0.5), rings=2)
    with program(bench, "-t", "Both", "-G", limit=limit) as process:
        out, err = process.communicate(timeout=120.0)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("the result cannot be written: File too large")
    assert left(bench) == []


def test_what_does_not_fit_the_memory_has_its_room_on_disk_before_it_is_used(tmp_path: Path) -> None:
    """The system would end the process in the middle where there is none left."""
    bench = make(tmp_path, LONG, rings=1)
    with program(bench, "-t", "Twotime", "--memory", "1e-6") as process:
        until = threading.Event()
        sizes: list[os.stat_result] = []
        while process.poll() is None and not any(size.st_size for size in sizes):
            until.wait(0.001)
            sizes = [file.stat() for file in (bench.folder / "out").glob(".reconstructing-*/frames")]
        process.terminate()
        process.communicate(timeout=60.0)
    assert sizes
    assert 512 * sizes[0].st_blocks >= sizes[0].st_size > 0
    assert left(bench) == []


def test_a_run_that_is_killed_leaves_nothing_in_place_and_the_next_one_tidies_up(tmp_path: Path) -> None:
    bench = make(tmp_path, LONG, rings=1)
    with program(bench, "-t", "Twotime") as process:
        begun(process, bench)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60.0)
    assert process.returncode == -signal.SIGKILL
    assert [name for name in left(bench) if not name.startswith(".")] == []
    assert left(bench)
    bench.correlate(Parameters(frames=Selection(end=50)))
    assert left(bench) == ["a_results.hdf", "a_results.json"]


def test_a_run_that_is_told_to_stop_leaves_nothing(tmp_path: Path) -> None:
    bench = make(tmp_path, LONG, rings=1)
    with program(bench, "-t", "Twotime") as process:
        begun(process, bench)
        process.terminate()
        _out, err = process.communicate(timeout=60.0)
    assert process.returncode == 130
    assert "told to stop" in err
    assert left(bench) == []


def test_a_run_whose_terminal_goes_leaves_nothing(tmp_path: Path) -> None:
    bench = make(tmp_path, LONG, rings=1)
    ours, terminal = pty.openpty()
    words = [sys.executable, "-m", "orchestration.science", "xpcs", *map(str, correlating(bench, "-t", "Twotime"))]
    line = ["setsid", "--ctty", "--wait", *words]

    def hear() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run with `nohup`

    with subprocess.Popen(line, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=hear) as process:
        os.close(terminal)
        try:
            begun(process, bench)
            os.close(ours)
            assert process.wait(timeout=60.0) == 130
        finally:
            process.kill()
    assert left(bench) == []
