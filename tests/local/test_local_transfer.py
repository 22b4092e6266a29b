"""Copies between directories of this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from orchestration.config import Endpoint
from orchestration.errors import (
    Cancelled,
    ChecksumMismatch,
    ConfigError,
    EndpointRefused,
    InvalidInput,
    InvalidPath,
    NoSpace,
    OrchestrationError,
    SourceChanged,
    SourceMissing,
)
from orchestration.ledger.service import CancelAnswer, Failed, Running, Status, Succeeded
from orchestration.local import copying, renaming
from orchestration.local.transfer import LocalTransfer
from orchestration.paths import RelativePath
from orchestration.transfers import TransferItem, TransferRequest


@pytest.fixture
def mover(tmp_path: Path) -> LocalTransfer:
    return LocalTransfer(state=tmp_path / "state")


def request_of(here: Endpoint, there: Endpoint, *names: str) -> TransferRequest:
    return TransferRequest.of([RelativePath(name) for name in names], source=here, destination=there)


def wait(mover: LocalTransfer, request: TransferRequest, token: str = "t1") -> Status:
    end = time.monotonic() + 20
    while isinstance(status := mover.poll(request, token), Running):
        assert time.monotonic() < end, status
        time.sleep(0.01)
    return status


def copy(mover: LocalTransfer, request: TransferRequest, token: str = "t1") -> Status:
    mover.submit(request, token)
    return wait(mover, request, token)


def failure(status: Status) -> OrchestrationError:
    assert isinstance(status, Failed), status
    return status.error


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_file_arrives_whole_with_its_checksum_as_evidence(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    content = os.urandom(10_000_000)
    (tmp_path / "data" / "raw").mkdir()
    (tmp_path / "data" / "raw" / "scan.h5").write_bytes(content)
    request = request_of(here, there, "raw/scan.h5")

    status = copy(mover, request)

    assert isinstance(status, Succeeded)
    assert files(tmp_path / "backup") == {"raw/scan.h5": content}
    checksum = hashlib.sha256(content).hexdigest()
    assert status.evidence["manifest"] == [{"path": "raw/scan.h5", "size": len(content), "sha256": checksum}]
    again = copy(mover, request, "t2")
    assert isinstance(again, Succeeded)
    items = again.evidence["items"]
    assert isinstance(items, list)
    assert isinstance(items[0], dict)
    assert items[0]["skipped"] is True


@pytest.mark.parametrize(
    "name",
    [
        "a b.h5",
        "quo'te\".h5",
        "$(touch x).h5",
        "-rf",
        "x" * 255,
        "ü" * 127,
        "scan;rm *.h5",
        "日本.h5",
        "back\\slash",
    ],
)
@pytest.mark.parametrize("directory", [False, True])
def test_hostile_names_survive(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, name: str, directory: bool
) -> None:
    source = tmp_path / "data" / name
    if directory:
        source.mkdir()
        (source / name).write_bytes(b"x")
    else:
        source.write_bytes(b"x")

    assert isinstance(copy(mover, request_of(here, there, name)), Succeeded)

    assert files(tmp_path / "backup") == files(tmp_path / "data")
    assert [path.name for path in (tmp_path / "backup").iterdir()] == [name]


def test_a_directory_replaces_an_older_result_as_a_whole(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    new, old = tmp_path / "data" / "rec", tmp_path / "backup" / "rec"
    for folder in (new / "a" / "empty", new / "b", old / "a"):
        folder.mkdir(parents=True)
    (new / "a" / "0.tif").write_bytes(b"new")
    (new / "b" / "1.tif").write_bytes(b"new")
    (old / "a" / "0.tif").write_bytes(b"old")
    (old / "a" / "stale.tif").write_bytes(b"old")

    status = copy(mover, request_of(here, there, "rec"))

    assert isinstance(status, Succeeded)
    assert files(old) == {"a/0.tif": b"new", "b/1.tif": b"new"}
    assert (old / "a" / "empty").is_dir()
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["rec"]
    inode = old.stat().st_ino
    again = copy(mover, request_of(here, there, "rec"), "t2")
    assert isinstance(again, Succeeded)
    assert again.evidence["files"] == 2
    assert old.stat().st_ino == inode  # the same bytes: left alone


def test_where_names_cannot_be_exchanged_an_older_result_is_renamed_aside(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renaming, "_exchange_at_once", lambda *_: False)
    for folder, content in (("data", b"new"), ("backup", b"old")):
        (tmp_path / folder / "rec").mkdir(parents=True)
        (tmp_path / folder / "rec" / "0.tif").write_bytes(content)

    assert isinstance(copy(mover, request_of(here, there, "rec")), Succeeded)

    assert files(tmp_path / "backup") == {"rec/0.tif": b"new"}


def test_several_items_may_be_renamed_on_the_way(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / "data" / name).mkdir()
        (tmp_path / "data" / name / "f").write_text(name)
    (tmp_path / "data" / "three").write_text("three")
    names = {RelativePath(name): RelativePath(f"new/{name}") for name in ("one", "two", "three")}
    request = TransferRequest.of(names, source=here, destination=there)

    assert isinstance(copy(mover, request), Succeeded)
    assert files(tmp_path / "backup" / "new") == {"one/f": b"one", "two/f": b"two", "three": b"three"}


def test_a_missing_source_is_named(mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path) -> None:
    error = failure(copy(mover, request_of(here, there, "raw/none.h5")))
    assert isinstance(error, SourceMissing)
    assert "there is nothing at" in str(error)
    assert list((tmp_path / "backup").iterdir()) == []


def test_a_mount_that_is_not_there_is_not_a_missing_scan(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "data").rmdir()
    error = failure(copy(mover, request_of(here, there, "scan.h5")))
    assert isinstance(error, EndpointRefused)
    assert "mount it" in str(error)


def test_an_endpoint_elsewhere_is_a_mistake_in_the_settings(mover: LocalTransfer, here: Endpoint) -> None:
    with pytest.raises(ConfigError):
        mover.submit(request_of(here, Endpoint(root_path="/far").known_as("far"), "scan.h5"), "t1")


def test_a_corrupted_byte_is_noticed(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x" * 1000)

    def corrupt(descriptor: int) -> None:  # as a bad disk would, once the bytes are out of memory
        os.pwrite(descriptor, b"y", 500)

    monkeypatch.setattr(copying, "forget_cached", corrupt)

    error = failure(copy(mover, request_of(here, there, "scan.h5")))

    assert isinstance(error, ChecksumMismatch)
    assert list((tmp_path / "backup").iterdir()) == []


@pytest.mark.parametrize("directory", [False, True])
def test_a_source_that_grows_while_it_is_copied_is_refused(
    mover: LocalTransfer,
    here: Endpoint,
    there: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    directory: bool,
) -> None:
    source = tmp_path / "data" / "scan"
    if directory:
        source.mkdir()
    growing = source / "0.tif" if directory else source
    growing.write_bytes(b"x" * 1000)
    added = source / "1.tif" if directory else source

    def grow(_descriptor: int) -> None:
        with added.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(copying, "forget_cached", grow)

    assert isinstance(failure(copy(mover, request_of(here, there, "scan"))), SourceChanged)
    assert list((tmp_path / "backup").iterdir()) == []


def test_a_link_inside_is_followed_and_one_that_leads_outside_is_refused(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    scan = tmp_path / "data" / "scan"
    scan.mkdir()
    (tmp_path / "data" / "flat.h5").write_text("flat")
    (scan / "inside").symlink_to("../flat.h5")
    assert isinstance(copy(mover, request_of(here, there, "scan")), Succeeded)
    assert files(tmp_path / "backup") == {"scan/inside": b"flat"}

    (scan / "outside").symlink_to(tmp_path / "secret")
    error = failure(copy(mover, request_of(here, there, "scan"), "t2"))
    assert isinstance(error, InvalidPath)
    assert "leads outside" in error.sentence
    (scan / "outside").unlink()
    (scan / "circle").symlink_to(".")
    error = failure(copy(mover, request_of(here, there, "scan"), "t3"))
    assert isinstance(error, InvalidPath)
    assert "circle" in error.sentence
    (scan / "circle").unlink()
    (scan / "nowhere").symlink_to("gone")
    assert isinstance(failure(copy(mover, request_of(here, there, "scan"), "t4")), SourceMissing)
    assert files(tmp_path / "backup") == {"scan/inside": b"flat"}


def test_what_is_no_file_or_cannot_be_named_is_refused(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    scan = tmp_path / "data" / "scan"
    scan.mkdir()
    os.mkfifo(scan / "pipe")
    assert isinstance(failure(copy(mover, request_of(here, there, "scan"))), EndpointRefused)
    assert isinstance(failure(copy(mover, request_of(here, there, "scan/pipe"), "t2")), EndpointRefused)
    (scan / "pipe").unlink()
    (scan / "new\nline").touch()
    error = failure(copy(mover, request_of(here, there, "scan"), "t3"))
    assert isinstance(error, InvalidPath)
    assert "control character" in error.sentence
    (scan / "new\nline").unlink()
    Path(os.fsdecode(bytes(scan) + b"/latin-\xe9")).touch()
    assert isinstance(failure(copy(mover, request_of(here, there, "scan"), "t4")), InvalidPath)


def test_a_directory_never_replaces_a_file_nor_the_reverse(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "data" / "a").mkdir()
    (tmp_path / "backup" / "a").write_text("file")
    (tmp_path / "data" / "b").write_text("file")
    (tmp_path / "backup" / "b").mkdir()
    assert isinstance(failure(copy(mover, request_of(here, there, "a"))), EndpointRefused)
    assert isinstance(failure(copy(mover, request_of(here, there, "b"), "t2")), EndpointRefused)
    names = {RelativePath("a"): RelativePath("a/inside")}
    into_itself = TransferRequest.of(names, source=here, destination=here)
    assert isinstance(failure(copy(mover, into_itself, "t3")), EndpointRefused)
    assert isinstance(failure(copy(mover, request_of(here, here, "b"), "t4")), EndpointRefused)


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
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
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
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    assert run(tmp_path, code) == 0


@pytest.mark.parametrize("moment", ["forget_cached", "_place", "fsync_directory"])
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
        import orchestration.local.copying as copying
        copying.{moment} = lambda *_: kill()
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
    (tmp_path / "data" / "scan.h5").write_bytes(b"x" * 100_000)
    monkeypatch.setattr(copying, "CHUNK", 10)
    request = request_of(here, there, "scan.h5")
    mover.submit(request, "t1")
    assert mover.find(request, "t1") == "t1"

    assert mover.cancel("t1") is CancelAnswer.CANCELLED

    assert isinstance(failure(mover.poll(request, "t1")), Cancelled)
    assert list((tmp_path / "backup").iterdir()) == []
    monkeypatch.undo()
    assert isinstance(copy(mover, request, "t2"), Succeeded)
    assert mover.cancel("t2") is CancelAnswer.ALREADY_FINISHED


def test_another_process_can_cancel_and_two_do_not_copy_at_once(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x" * 100_000)
    code = """
        import orchestration.local.copying as copying
        copying.CHUNK = 1
        mover.submit(request, "t1")
        (tmp / "ready").touch()
        status = finish(mover, request)
        assert type(status.error) is Cancelled, status
    """
    other = threading.Thread(target=lambda: codes.append(run(tmp_path, code)))
    codes: list[int] = []
    other.start()
    end = time.monotonic() + 10
    while not list((tmp_path / "backup").glob(".orc-*")):
        assert time.monotonic() < end
        time.sleep(0.01)

    assert mover.cancel("t1") is CancelAnswer.CANCELLED

    other.join(10)
    assert codes == [0]
    assert isinstance(failure(wait(mover, request_of(here, there, "scan.h5"))), Cancelled)


def test_the_identity_of_a_request_is_what_goes_where_and_not_its_label(here: Endpoint, there: Endpoint) -> None:
    item = TransferItem(source=RelativePath("a"), destination=RelativePath("b"))
    one = TransferRequest(source=here, destination=there, items=(item,), label="one")
    two = TransferRequest(source=here, destination=there, items=(item,), label="two")
    assert one.document() == two.document()
    assert one.document() == {"source": "data", "destination": "backup", "items": [["/data/a", "/backup/b"]]}
    with pytest.raises(InvalidInput):
        TransferRequest(source=here, destination=there, items=())
    with pytest.raises(InvalidInput):
        TransferRequest(source=here, destination=there, items=(item, item))


def run(tmp_path: Path, code: str) -> int:
    """Run `code` in a process of its own, with a copy of scan.h5 prepared; returns its exit status."""
    head = f"""
        import os, resource, signal, time
        from pathlib import Path
        from orchestration.config import Endpoint
        from orchestration.errors import *
        from orchestration.ledger.service import Running
        from orchestration.local.transfer import LocalTransfer
        from orchestration.paths import RelativePath
        from orchestration.transfers import TransferRequest
        tmp = Path({str(tmp_path)!r})
        (tmp / "backup").mkdir(exist_ok=True)
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        here = Endpoint(root_path="/data", mount=tmp / "data").known_as("data")
        there = Endpoint(root_path="/backup", mount=tmp / "backup").known_as("backup")
        request = TransferRequest.of(RelativePath("scan.h5"), source=here, destination=there)
        (tmp / "state").mkdir(exist_ok=True)
        (tmp / "state").chmod(0o777)
        mover = LocalTransfer(state=tmp / "state")

        def become_nobody():
            if os.getuid() == 0:
                os.setuid(65534)

        def finish(mover, request):
            mover.submit(request, "t1")
            while isinstance(status := mover.poll(request, "t1"), Running):
                time.sleep(0.01)
            return status
    """
    whole = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)
    if done.returncode > 0:
        sys.stderr.write(done.stderr)
    return done.returncode
