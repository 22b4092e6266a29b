"""Deletions at, and looks at, collections."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from globus_ground import POLICY, Ground

from orchestration.errors import AccessDenied, OrchestrationError, ServiceUnavailable, SourceMissing
from orchestration.globus.auth import TransferClients
from orchestration.globus.delete import GlobusDelete
from orchestration.globus.files import GlobusFiles, TooManyFolders
from orchestration.ledger.service import CancelAnswer, Failed, Running, Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.sandbox.testing import submit
from orchestration.transfers import DeleteRequest

Write = Callable[[str, bytes], Path]


@pytest.fixture
def deleter(clients: TransferClients) -> GlobusDelete:
    return GlobusDelete(clients, POLICY)


def asked(ground: Ground, *names: str, ignore_missing: bool = False) -> DeleteRequest:
    paths = tuple(RelativePath(name) for name in names)
    return DeleteRequest(endpoint=ground.beamline, paths=paths, ignore_missing=ignore_missing)


def wait(deleter: GlobusDelete, request: DeleteRequest, handle: str) -> Status:
    end = time.monotonic() + 15
    while isinstance(status := deleter.poll(request, handle), Running):
        assert time.monotonic() < end, status
        time.sleep(0.02)
    return status


def failure(status: Status) -> OrchestrationError:
    assert isinstance(status, Failed), status
    return status.error


@pytest.mark.parametrize("name", ["scan.h5", "a b", "-rf", "*", "x" * 255])
def test_exactly_what_is_named_is_deleted(ground: Ground, deleter: GlobusDelete, write: Write, name: str) -> None:
    for each in (name, "rec/a/0.tif", "other"):
        write(each, b"x")
    request = asked(ground, name, "rec")

    status = wait(deleter, request, submit(deleter, request, deleter.reserve("key")))

    assert isinstance(status, Succeeded)
    assert [path.name for path in ground.folder(ground.beamline).iterdir()] == ["other"]


def test_a_missing_path_stops_it_before_anything_is_deleted(
    ground: Ground, deleter: GlobusDelete, write: Write
) -> None:
    path = write("scan.h5", b"x")
    with pytest.raises(SourceMissing):
        submit(deleter, asked(ground, "scan.h5", "none"), deleter.reserve("key"))
    assert path.exists()
    request = asked(ground, "scan.h5", "none", ignore_missing=True)
    assert isinstance(wait(deleter, request, submit(deleter, request, deleter.reserve("key"))), Succeeded)


def test_a_denied_deletion_is_told(ground: Ground, deleter: GlobusDelete, write: Write) -> None:
    write("scan.h5", b"x")
    ground.control.collections.set(str(ground.beamline.uuid), writable=False)
    request = asked(ground, "scan.h5")
    assert isinstance(failure(wait(deleter, request, submit(deleter, request, deleter.reserve("key")))), AccessDenied)


def test_a_lost_answer_deletes_once_and_is_found(ground: Ground, deleter: GlobusDelete, write: Write) -> None:
    path = write("scan.h5", b"x")
    request = asked(ground, "scan.h5")
    token = deleter.reserve("key")
    assert deleter.find(request, token) is None
    ground.control.faults.add("POST .*/delete$", "lost_answer")
    with pytest.raises(ServiceUnavailable):
        submit(deleter, request, token)
    handle = deleter.find(request, token)
    assert handle is not None
    assert isinstance(wait(deleter, request, handle), Succeeded)
    assert submit(deleter, request, token) == handle  # though what it names is missing by now
    path.write_bytes(b"again")
    assert "again" in failure(deleter.poll(request, handle)).sentence
    assert deleter.cancel(handle) is CancelAnswer.ALREADY_FINISHED


def test_a_look_tells_sizes_and_all_files(ground: Ground, clients: TransferClients, write: Write) -> None:
    for name in ("rec/a/0.tif", "rec/.zattrs", "rec/b/c/d"):
        write(name, name.encode())
    files = GlobusFiles(clients)

    found = files.inspect(ground.beamline, RelativePath("rec"))

    assert found is not None
    assert found.manifest == ((".zattrs", 11), ("a/0.tif", 11), ("b/c/d", 9))
    assert (found.is_directory, found.size) == (True, 31)
    assert abs(found.modified - time.time()) < 60
    single = files.inspect(ground.beamline, RelativePath("rec/.zattrs"))
    assert single is not None
    assert (single.is_directory, single.size, single.manifest) == (False, 11, ())
    assert files.inspect(ground.beamline, RelativePath("rec/none")) is None
    with pytest.raises(TooManyFolders):
        files.inspect(ground.beamline, RelativePath("rec"), most_folders=2)
