"""Trees of many small files: carried a batch at a time, with the guarantees of every copy."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from local_ground import copy, failure, files, request_of, run, wait

from orchestration.config import Endpoint
from orchestration.errors import Cancelled, ChecksumMismatch, SourceChanged
from orchestration.ledger.service import CancelAnswer, Succeeded
from orchestration.local import pools, small, syncing
from orchestration.local.transfer import LocalTransfer
from orchestration.sandbox.testing import submit


def fill(folder: Path, count: int) -> None:
    """Small files in two levels, empty ones among them, and one that is too large to go with others."""
    (folder / "deep" / "deeper").mkdir(parents=True)
    for number in range(count):
        part = ("", "deep", "deep/deeper")[number % 3]
        (folder / part / f"{number:05}.dat").write_bytes(os.urandom(number % 500))
    (folder / "large.dat").write_bytes(os.urandom(pools.SMALL + 1))


@pytest.mark.parametrize("at_once", [True, False])
def test_they_arrive_whole_with_a_checksum_each(
    mover: LocalTransfer,
    here: Endpoint,
    there: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: bool,
) -> None:
    if not at_once:
        monkeypatch.setattr(syncing, "sync_file_system", lambda _: False)
    monkeypatch.setattr(pools, "BATCH_FILES", 100)
    fill(tmp_path / "data" / "scan", 700)
    status = copy(mover, request_of(here, there, "scan"))
    assert isinstance(status, Succeeded)
    assert files(tmp_path / "backup") == files(tmp_path / "data")
    listed = status.evidence["manifest"]
    assert isinstance(listed, list)
    assert [row["path"] for row in listed if isinstance(row, dict)] == sorted(files(tmp_path / "data"))
    again = copy(mover, request_of(here, there, "scan"), "t2")
    assert isinstance(again, Succeeded)
    assert again.evidence["manifest"] == listed


def test_those_of_one_call_are_durable_by_one_call(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        (tmp_path / "file").write_bytes(b"x")
        assert syncing.sync_file_system(descriptor)
    finally:
        os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        syncing.sync_file_system(descriptor)


def test_one_that_the_disk_spoils_is_noticed_among_many(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "scan", 300)
    forget = small.forget_cached

    def spoil(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "00250.dat":
            os.pwrite(descriptor, b"spoilt", 100)
        forget(descriptor)

    monkeypatch.setattr(small, "forget_cached", spoil)
    error = failure(copy(mover, request_of(here, there, "scan")))
    assert isinstance(error, ChecksumMismatch)
    assert "00250.dat" in error.what
    assert list((tmp_path / "backup").iterdir()) == []


def test_one_that_changes_after_it_was_carried_is_noticed(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "scan", 300)
    sync = syncing.sync_file_system

    def meanwhile(descriptor: int) -> bool:
        (tmp_path / "data" / "scan" / "00001.dat").write_bytes(b"written anew")
        return sync(descriptor)

    monkeypatch.setattr(syncing, "sync_file_system", meanwhile)
    assert isinstance(failure(copy(mover, request_of(here, there, "scan"))), SourceChanged)
    assert list((tmp_path / "backup").iterdir()) == []


def test_killed_between_writing_and_making_durable_the_next_attempt_completes_it(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    fill(tmp_path / "data" / "scan.h5", 200)
    code = """
        import orchestration.local.syncing as syncing
        syncing.sync_file_system = lambda _: kill()
        finish(mover, request)
    """
    assert run(tmp_path, code) == -signal.SIGKILL
    assert isinstance(wait(mover, request_of(here, there, "scan.h5")), Succeeded)
    assert files(tmp_path / "backup") == files(tmp_path / "data")
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["scan.h5"]


def test_cancelled_it_ends_within_a_second_and_leaves_nothing(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data" / "scan", 1500)
    forget = small.forget_cached

    def slowly(descriptor: int) -> None:
        time.sleep(0.05)
        forget(descriptor)

    monkeypatch.setattr(small, "forget_cached", slowly)
    request = request_of(here, there, "scan")
    submit(mover, request, "t1")
    end = time.monotonic() + 60
    while not list((tmp_path / "backup").glob(".orc-*/large.dat")):
        assert time.monotonic() < end
        time.sleep(0.01)
    began = time.monotonic()
    assert mover.cancel("t1") is CancelAnswer.CANCELLED
    assert time.monotonic() - began < 1.0
    assert isinstance(failure(mover.poll(request, "t1")), Cancelled)
    assert list((tmp_path / "backup").iterdir()) == []
