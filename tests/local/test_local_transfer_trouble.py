"""Copies on full and forbidden disks, killed and cancelled."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from local_ground import copy, failure, files, request_of, run, wait

from orchestration.config import Endpoint
from orchestration.errors import (
    Cancelled,
    EndpointRefused,
    NoSpace,
)
from orchestration.ledger.service import CancelAnswer, Succeeded
from orchestration.local import verified
from orchestration.local.transfer import LocalTransfer
from orchestration.sandbox.testing import submit

LONG = 50_000_000
"""Bytes of a file that takes long to copy, one at a time."""


def cancel(mover: LocalTransfer) -> None:
    end = time.monotonic() + 60
    while (answer := mover.cancel("t1")) is not CancelAnswer.CANCELLED:
        assert answer is CancelAnswer.UNKNOWN
        assert time.monotonic() < end


def let_others_in(folder: Path) -> None:
    """So that another user gets to it; nothing is taken from anybody."""
    for each in (folder, *folder.parents[:3]):
        each.chmod(each.stat().st_mode | 0o055)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        status = finish(mover, request)
        assert type(status.error) is NoSpace, status
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scan.h5").write_bytes(b"x" * 9_000_000)
    assert run(tmp_path, code) == 0
    assert list((tmp_path / "backup").iterdir()) == []


def test_too_little_space_is_known_before_a_byte_is_written(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    with (tmp_path / "data" / "scan.h5").open("wb") as file:
        file.truncate(shutil.disk_usage(tmp_path).free + 10**9)  # sparse
    error = failure(copy(mover, request_of(here, there, "scan.h5")))
    assert isinstance(error, NoSpace)
    assert "bytes free" in str(error)


def test_a_source_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    code = """
        os.chmod(tmp, 0o755)
        os.chmod(tmp / "backup", 0o777)
        become_nobody()
        status = finish(mover, request)
        assert type(status.error) is AccessDenied, status
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scan.h5").write_bytes(b"x")
    (tmp_path / "data" / "scan.h5").chmod(0)
    let_others_in(tmp_path)
    assert run(tmp_path, code) == 0


def test_a_destination_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    code = """
        os.chmod(tmp / "backup", 0o555)
        become_nobody()
        status = finish(mover, request)
        assert type(status.error) is AccessDenied, status
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scan.h5").write_bytes(b"x")
    let_others_in(tmp_path)
    assert run(tmp_path, code) == 0


@pytest.mark.parametrize("moment", ["small.forget_cached", "copying._place", "copying.fsync_directory"])
@pytest.mark.parametrize("directory", [False, True])
def test_killed_at_any_moment_the_next_attempt_completes_it(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, moment: str, directory: bool
) -> None:
    source = tmp_path / "data" / "scan.h5"
    if directory:
        (source / "deep").mkdir(parents=True)
        (source / "deep" / "0.tif").write_bytes(b"x" * 5000)
        (tmp_path / "backup" / "scan.h5").mkdir()
        (tmp_path / "backup" / "scan.h5" / "old").write_bytes(b"old")
    else:
        source.write_bytes(b"x" * 5000)
    code = f"""
        from orchestration.local import copying, small
        {moment} = lambda *_: kill()
        finish(mover, request)
    """
    assert run(tmp_path, code) == -signal.SIGKILL
    request = request_of(here, there, "scan.h5")

    assert mover.find(request, "t1") is None  # nobody in this process knows of it
    assert isinstance(wait(mover, request), Succeeded)  # polled by its handle, as after a restart

    assert files(tmp_path / "backup") == files(tmp_path / "data")
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["scan.h5"]


def test_what_others_left_a_day_ago_is_cleaned_and_what_is_fresh_is_not(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x")
    old = tmp_path / "backup" / ".orc-0123456789abcdef-01234567.part"
    fresh = tmp_path / "backup" / ".orc-0123456789abcdef-89abcdef.part"
    old.mkdir()
    fresh.touch()
    os.utime(old, (1, 1))
    assert isinstance(copy(mover, request_of(here, there, "scan.h5")), Succeeded)
    assert (old.exists(), fresh.exists()) == (False, True)


def test_cancel_stops_within_a_chunk_and_leaves_nothing(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x" * LONG)
    monkeypatch.setattr(verified, "CHUNK", 1)
    request = request_of(here, there, "scan.h5")
    submit(mover, request, "t1")
    assert mover.find(request, "t1") == "t1"

    cancel(mover)

    assert isinstance(failure(mover.poll(request, "t1")), Cancelled)
    assert list((tmp_path / "backup").iterdir()) == []
    monkeypatch.undo()
    assert isinstance(copy(mover, request, "t2"), Succeeded)
    assert mover.cancel("t2") is CancelAnswer.ALREADY_FINISHED


def test_another_process_can_cancel_and_two_do_not_copy_at_once(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x" * LONG)
    code = """
        from orchestration.local import verified
        verified.CHUNK = 1
        submit(mover, request, "t1")
        (tmp / "ready").touch()
        status = finish(mover, request)
        assert type(status.error) is Cancelled, status
    """
    other = threading.Thread(target=lambda: codes.append(run(tmp_path, code)))
    codes: list[int] = []
    other.start()
    end = time.monotonic() + 60
    while not list((tmp_path / "backup").glob(".orc-*")):
        assert time.monotonic() < end
        time.sleep(0.01)

    cancel(mover)

    other.join(60)
    assert codes == [0]
    assert isinstance(failure(wait(mover, request_of(here, there, "scan.h5"))), Cancelled)


def test_what_others_copy_beside_it_gets_its_name_meanwhile(
    mover: LocalTransfer, here: Endpoint, there: Endpoint
) -> None:
    """Temporary files of other copies in the same folder are there, and a moment later they are not."""
    source, folder = Path(str(here.mount)), Path(str(there.mount))
    for number in range(20):
        (source / f"scan{number}.h5").write_bytes(b"x" * 100)
    over = threading.Event()

    def others() -> None:
        while not over.is_set():
            parts = [folder / f".orc-{'0' * 16}-{number:08x}.part" for number in range(100)]
            for part in parts:
                part.touch()
            for part in parts:
                part.rename(folder / "theirs.h5")

    beside = threading.Thread(target=others)
    beside.start()
    try:
        for number in range(20):
            ended = copy(mover, request_of(here, there, f"scan{number}.h5"), token=f"t{number}")
            assert isinstance(ended, Succeeded), ended
    finally:
        over.set()
        beside.join()


def test_what_was_never_submitted_is_not_begun_by_a_question_about_it(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x")
    error = failure(mover.poll(request_of(here, there, "scan.h5"), "made up"))
    assert "knows nothing of the copy" in error.what
    assert list((tmp_path / "backup").iterdir()) == []


def test_what_cannot_be_written_down_is_not_begun(here: Endpoint, there: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x")
    (tmp_path / "state").write_text("no folder")
    with pytest.raises(EndpointRefused, match="state cannot be written"):
        submit(LocalTransfer(state=tmp_path / "state"), request_of(here, there, "scan.h5"), "t1")
    assert list((tmp_path / "backup").iterdir()) == []


def test_what_was_submitted_long_ago_is_forgotten(here: Endpoint, there: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x")
    state = tmp_path / "state"
    state.mkdir()
    (old := state / "old.submitted").touch()
    (fresh := state / "fresh.submitted").touch()
    os.utime(old, (time.time() - 61 * 86400,) * 2)
    assert isinstance(copy(LocalTransfer(state=state), request_of(here, there, "scan.h5"), "t1"), Succeeded)
    assert (old.exists(), fresh.exists()) == (False, True)
