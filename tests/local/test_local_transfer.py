"""Copies between directories of this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from local_ground import copy, failure, files, request_of

from orchestration.config import Endpoint
from orchestration.errors import (
    ChecksumMismatch,
    ConfigError,
    EndpointRefused,
    InvalidInput,
    InvalidPath,
    SourceChanged,
    SourceMissing,
)
from orchestration.ledger.service import Succeeded
from orchestration.local import renaming, small
from orchestration.local.transfer import LocalTransfer
from orchestration.paths import RelativePath
from orchestration.policy import Zone
from orchestration.sandbox.testing import submit
from orchestration.transfers import TransferItem, TransferRequest


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
        submit(mover, request_of(here, Endpoint(root_path="/far").known_as("far"), "scan.h5"), "t1")


def test_a_corrupted_byte_is_noticed(
    mover: LocalTransfer, here: Endpoint, there: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "scan.h5").write_bytes(b"x" * 1000)

    def corrupt(descriptor: int) -> None:  # as a bad disk would, once the bytes are out of memory
        with open(f"/proc/self/fd/{descriptor}", "r+b") as disk:
            disk.seek(500)
            disk.write(b"y")

    monkeypatch.setattr(small, "forget_cached", corrupt)

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

    monkeypatch.setattr(small, "forget_cached", grow)

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
    assert "leads outside" in failure(copy(mover, request_of(here, there, "scan"), "t0")).sentence
    there = there.model_copy(update={"zone": Zone.BEAMLINE})  # elsewhere only what is in the folder itself goes
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
