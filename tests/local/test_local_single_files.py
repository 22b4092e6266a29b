"""Many single files in one transfer: carried together, with the guarantees of every copy for each of them."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest
from local_ground import copy, failure, files, request_of, run, wait

from orchestration.config import Endpoint
from orchestration.errors import Cancelled, ChecksumMismatch, EndpointRefused, SourceChanged
from orchestration.ledger.service import CancelAnswer, Succeeded
from orchestration.local import pools, small, syncing
from orchestration.local.transfer import LocalTransfer
from orchestration.sandbox.testing import submit


def fill(folder: Path, count: int) -> list[str]:
    """Small ones in three folders, empty ones among them, and two that are too large to go with others."""
    names = [f"{('raw', 'raw/deep', 'other')[number % 3]}/{number:05}.dat" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        size = pools.SMALL + 1 if number in {5, 50} else number % 500
        (folder / name).write_bytes(os.urandom(size))
    return names


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is made durable from now on, one call each."""
    calls: list[str] = []
    whole, one = syncing.sync_file_system, os.fsync

    def everything(descriptor: int) -> bool:
        calls.append("all")
        return whole(descriptor)

    def single(descriptor: int) -> None:
        calls.append("one")
        one(descriptor)

    monkeypatch.setattr(syncing, "sync_file_system", everything)
    monkeypatch.setattr(os, "fsync", single)
    return calls


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
    names = fill(tmp_path / "data", 300)
    status = copy(mover, request_of(here, there, *names))
    assert isinstance(status, Succeeded)
    content = files(tmp_path / "data")
    assert files(tmp_path / "backup") == content
    expected = [
        {"path": name, "size": len(content[name]), "sha256": hashlib.sha256(content[name]).hexdigest()}
        for name in names
    ]
    assert status.evidence["manifest"] == expected
    again = copy(mover, request_of(here, there, *names), "t2")
    assert isinstance(again, Succeeded)
    assert again.evidence["manifest"] == expected
    items = again.evidence["items"]
    assert isinstance(items, list)
    assert all(isinstance(item, dict) and item["skipped"] for item in items)


def test_hundreds_are_durable_by_a_few_calls(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    names = [f"{number:05}.dat" for number in range(500)]
    for name in names:
        (tmp_path / "data" / name).write_bytes(os.urandom(100))
    calls = synced(monkeypatch)
    assert isinstance(copy(mover, request_of(here, there, *names)), Succeeded)
    assert "all" in calls
    assert len(calls) < 10


def test_folders_among_them_arrive_as_well(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    names = fill(tmp_path / "data", 12)
    (tmp_path / "data" / "scan" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "scan" / "deep" / "0.tif").write_bytes(b"x" * 1000)
    assert isinstance(copy(mover, request_of(here, there, *names[:6], "scan", *names[6:])), Succeeded)
    assert files(tmp_path / "backup") == files(tmp_path / "data")


def test_one_that_the_disk_spoils_is_named_and_the_others_are_there(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fill(tmp_path / "data", 200)
    forget, bad = small.forget_cached, (tmp_path / "data" / names[100]).read_bytes()

    def spoil(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == len(bad) and os.pread(descriptor, 1000, 0) == bad:
            os.pwrite(descriptor, b"spoilt", 0)
        forget(descriptor)

    monkeypatch.setattr(small, "forget_cached", spoil)
    error = failure(copy(mover, request_of(here, there, *names)))
    assert isinstance(error, ChecksumMismatch)
    assert names[100] in error.what
    arrived, sent = files(tmp_path / "backup"), files(tmp_path / "data")
    assert sent.keys() - arrived.keys() == {names[100]}
    assert arrived.items() <= sent.items()


def test_one_that_changes_meanwhile_is_named_and_the_others_are_there(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fill(tmp_path / "data", 200)
    sync = syncing.sync_file_system

    def meanwhile(descriptor: int) -> bool:
        (tmp_path / "data" / names[100]).write_bytes(b"written anew")
        return sync(descriptor)

    monkeypatch.setattr(syncing, "sync_file_system", meanwhile)
    error = failure(copy(mover, request_of(here, there, *names)))
    assert isinstance(error, SourceChanged)
    assert names[100] in error.what
    arrived = files(tmp_path / "backup")
    assert set(names) - arrived.keys() == {names[100]}


def test_what_cannot_take_the_place_of_one_is_told_and_the_others_are_there(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    names = fill(tmp_path / "data", 40)
    (tmp_path / "backup" / names[7]).mkdir(parents=True)
    error = failure(copy(mover, request_of(here, there, *names)))
    assert isinstance(error, EndpointRefused)
    assert names[7] in error.what
    assert set(names) - files(tmp_path / "backup").keys() == {names[7]}


def test_one_that_may_not_be_read_is_told_and_the_others_are_there(tmp_path: Path) -> None:
    code = """
        names = [f"{number}.dat" for number in range(40)]
        request = TransferRequest.of([RelativePath(name) for name in names], source=here, destination=there)
        become_nobody()
        status = finish(mover, request)
        assert type(status.error) is AccessDenied, status
        assert len(list((tmp / "backup").iterdir())) == 39
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup").chmod(0o777)
    for number in range(40):
        (tmp_path / "data" / f"{number}.dat").write_bytes(b"x")
    (tmp_path / "data" / "11.dat").chmod(0)
    for each in (tmp_path, *tmp_path.parents[:3]):
        each.chmod(each.stat().st_mode | 0o055)
    assert run(tmp_path, code) == 0


@pytest.mark.parametrize("moment", ["syncing.sync_file_system", "small.forget_cached", "together.keep_folders"])
def test_killed_at_any_moment_the_next_attempt_completes_it(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, moment: str
) -> None:
    names = fill(tmp_path / "data", 100)
    code = f"""
        from orchestration.local import small, syncing, together
        {moment} = lambda *_: kill()
        request = TransferRequest.of([RelativePath(name) for name in {names!r}], source=here, destination=there)
        finish(mover, request)
    """
    assert run(tmp_path, code) == -signal.SIGKILL
    assert isinstance(wait(mover, request_of(here, there, *names)), Succeeded)
    assert files(tmp_path / "backup") == files(tmp_path / "data")


def test_cancelled_it_ends_within_a_second_and_leaves_nothing_half_done(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fill(tmp_path / "data", 1500)
    forget = small.forget_cached

    def slowly(descriptor: int) -> None:
        time.sleep(0.05)
        forget(descriptor)

    monkeypatch.setattr(small, "forget_cached", slowly)
    request = request_of(here, there, *names)
    submit(mover, request, "t1")
    end = time.monotonic() + 60
    while not (tmp_path / "backup" / names[5]).exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    began = time.monotonic()
    assert mover.cancel("t1") is CancelAnswer.CANCELLED
    assert time.monotonic() - began < 1.0
    assert isinstance(failure(mover.poll(request, "t1")), Cancelled)
    assert files(tmp_path / "backup").items() <= files(tmp_path / "data").items()
