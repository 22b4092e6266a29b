"""Trees of so many small files that other processes help: with the guarantees of every copy, and none of them left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from local_ground import copy, failure, files, request_of, run, wait

from orchestration.config import Endpoint
from orchestration.errors import Cancelled, ChecksumMismatch, SourceChanged, TransferFailed
from orchestration.ledger.service import CancelAnswer, Succeeded
from orchestration.local import copying, pools, syncing
from orchestration.local.transfer import LocalTransfer
from orchestration.sandbox.testing import submit


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "MANY", 100)
    monkeypatch.setattr(pools, "BATCH_FILES", 50)


def fill(folder: Path, count: int = 400) -> None:
    (folder / "deep" / "Ström · ☂").mkdir(parents=True)
    for number in range(count):
        part = ("", "deep", "deep/Ström · ☂")[number % 3]
        (folder / part / f"{number:05}.dat").write_bytes(os.urandom(number % 500))


def porters_of(parent: int) -> set[int]:
    """The process ids of those that work for a process."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            master = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"orchestration.local.porter" in words and master == parent:
            found.add(int(folder.name))
    return found


def while_they_work(monkeypatch: pytest.MonkeyPatch, do: Callable[[set[int]], None]) -> set[int]:
    """`do` something once, when the first files are written and not durable yet; returns those who were seen."""
    sync, seen, first = syncing.sync_file_system, set[int](), threading.Lock()

    def meanwhile(descriptor: int) -> bool:
        if first.acquire(blocking=False):  # of several threads, and never again
            seen.update(porters_of(os.getpid()))
            do(seen)
        return sync(descriptor)

    monkeypatch.setattr(syncing, "sync_file_system", meanwhile)
    return seen


def test_all_arrives_whole_with_their_help_and_none_stays(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "scan")
    seen = while_they_work(monkeypatch, lambda _: None)
    status = copy(mover, request_of(here, there, "scan"))
    assert isinstance(status, Succeeded), status
    assert files(tmp_path / "backup") == files(tmp_path / "data")
    assert seen
    assert not porters_of(os.getpid())
    again = copy(mover, request_of(here, there, "scan"), "t2")
    assert isinstance(again, Succeeded)
    assert again.evidence["manifest"] == status.evidence["manifest"]


def test_what_the_disk_spoils_is_noticed(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "scan")

    def spoil(_: set[int]) -> None:
        for file in (tmp_path / "backup").rglob("*.dat"):
            file.write_bytes(b"spoilt")

    while_they_work(monkeypatch, spoil)
    error = failure(copy(mover, request_of(here, there, "scan")))
    assert isinstance(error, ChecksumMismatch)
    assert ".dat does not hold what was written to it" in error.what
    assert list((tmp_path / "backup").iterdir()) == []
    assert not porters_of(os.getpid())


def test_a_file_that_is_another_by_now_is_noticed(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "scan")
    demand = copying.demand_space

    def meanwhile(folder: Path, size: int) -> None:
        (tmp_path / "data" / "scan" / "00003.dat").write_bytes(b"longer than before")
        demand(folder, size)

    monkeypatch.setattr(copying, "demand_space", meanwhile)
    error = failure(copy(mover, request_of(here, there, "scan")))
    assert isinstance(error, SourceChanged)
    assert "00003.dat" in error.what
    assert list((tmp_path / "backup").iterdir()) == []


def test_one_that_is_killed_fails_the_copy_and_the_next_attempt_completes_it(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "scan")

    def kill(porters: set[int]) -> None:
        for each in porters:
            os.kill(each, signal.SIGKILL)

    while_they_work(monkeypatch, kill)
    error = failure(copy(mover, request_of(here, there, "scan")))
    assert type(error) is TransferFailed
    assert "ended by itself, with -9" in error.what
    assert list((tmp_path / "backup").iterdir()) == []
    assert isinstance(copy(mover, request_of(here, there, "scan"), "t2"), Succeeded)
    assert files(tmp_path / "backup") == files(tmp_path / "data")


def test_cancelled_it_ends_within_a_second_though_they_hang(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "scan", 4000)

    def stop(porters: set[int]) -> None:
        for each in porters:
            os.kill(each, signal.SIGSTOP)

    seen = while_they_work(monkeypatch, stop)
    request = request_of(here, there, "scan")
    submit(mover, request, "t1")
    end = time.monotonic() + 60
    while not seen:
        assert time.monotonic() < end
        time.sleep(0.01)
    began = time.monotonic()
    assert mover.cancel("t1") is CancelAnswer.CANCELLED
    assert time.monotonic() - began < 1.0
    assert isinstance(failure(mover.poll(request, "t1")), Cancelled)
    assert list((tmp_path / "backup").iterdir()) == []
    assert not porters_of(os.getpid())


def test_they_end_with_the_process_that_started_them(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    fill(tmp_path / "data" / "scan.h5", 4000)
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_local_porters import porters_of
        from orchestration.local import copying, pools, syncing
        copying.MANY, pools.BATCH_FILES = 100, 50

        def die(_):
            (tmp / "porters").write_text(" ".join(map(str, porters_of(os.getpid()))))
            kill()

        syncing.sync_file_system = die
        finish(mover, request)
    """
    assert run(tmp_path, code) == -signal.SIGKILL
    porters = [int(each) for each in (tmp_path / "porters").read_text().split()]
    assert porters
    end = time.monotonic() + 10
    while any(_works(each) for each in porters):
        assert time.monotonic() < end, porters
        time.sleep(0.05)
    assert isinstance(wait(mover, request_of(here, there, "scan.h5")), Succeeded)
    assert files(tmp_path / "backup") == files(tmp_path / "data")
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["scan.h5"]


def _works(process: int) -> bool:
    """A porter that nobody has reaped yet does not."""
    try:
        return b"orchestration.local.porter" in Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
