"""Transfers through the real SDK against the facility on this machine."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import globus_sdk
import pytest
from globus_ground import POLICY, Ground
from pydantic import SecretStr

from orchestration.config import Credentials
from orchestration.errors import (
    AccessDenied,
    Cancelled,
    ChecksumMismatch,
    ConfigError,
    EndpointRefused,
    NoSpace,
    OperationFailed,
    OrchestrationError,
    ServiceUnavailable,
    SourceChanged,
    SourceMissing,
    TransferConflict,
    TransferFailed,
)
from orchestration.globus.auth import TransferClients
from orchestration.globus.transfer import GlobusTransfer
from orchestration.ledger.service import CancelAnswer, Document, Failed, Running, Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.sandbox.settings import CLIENT_ID
from orchestration.sandbox.testing import submit
from orchestration.transfers import TransferRequest

Write = Callable[[str, bytes], Path]

CRAWL = 10.0
"""Bytes per second: nothing arrives while a test looks at it, unless the test sees to it."""

IMPATIENT = POLICY.model_copy(update={"fault_patience_seconds": 0.001})


def asked(ground: Ground, *names: str, label: str = "") -> TransferRequest:
    paths = [RelativePath(name) for name in names]
    return TransferRequest.of(paths, source=ground.beamline, destination=ground.computer, label=label)


def until(found: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """What `found` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result


def status_of(mover: GlobusTransfer, request: TransferRequest, handle: str) -> Running:
    """Of a transfer that goes on."""
    status = mover.poll(request, handle)
    assert isinstance(status, Running), status
    return status


def wait(mover: GlobusTransfer, request: TransferRequest, handle: str, *, seconds: float = 60.0) -> Status:
    end = time.monotonic() + seconds
    while True:
        try:
            status = mover.poll(request, handle)
        except ServiceUnavailable:
            status = Running()
        if not isinstance(status, Running):
            return status
        assert time.monotonic() < end, status
        time.sleep(0.02)


def move(mover: GlobusTransfer, request: TransferRequest) -> Status:
    return wait(mover, request, submit(mover, request, mover.reserve("key")))


def evidence(status: Status) -> Document:
    assert isinstance(status, Succeeded), status
    return status.evidence


def failure(status: Status) -> OrchestrationError:
    assert isinstance(status, Failed), status
    return status.error


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_arrives_with_evidence_of_its_bytes(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("raw/scan.h5", b"x" * 5000)

    found = evidence(move(mover, asked(ground, "raw/scan.h5")))

    assert files(ground.folder(ground.computer)) == {"raw/scan.h5": b"x" * 5000}
    assert (found["files"], found["bytes"], found["sizes_checked"]) == (1, 5000, True)
    manifest = found["manifest"]
    assert isinstance(manifest, list)
    assert isinstance(manifest[0], dict)
    assert (manifest[0]["path"], manifest[0]["size"], manifest[0]["algorithm"]) == ("raw/scan.h5", 5000, "MD5")


def test_what_is_there_already_is_skipped_by_its_checksum(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("scan.h5", b"x" * 5000)
    evidence(move(mover, asked(ground, "scan.h5")))

    found = evidence(move(mover, asked(ground, "scan.h5")))

    assert (found["files_skipped"], found["files_transferred"], found["bytes"]) == (1, 0, 5000)


def test_a_directory_goes_whole_whatever_this_machine_has_at_that_path(
    ground: Ground, mover: GlobusTransfer, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("rec/a/0.tif", "rec/b/c/1.tif", "rec/.zattrs"):
        write(name, name.encode())
    (tmp_path / "rec").write_text("a file here")
    monkeypatch.chdir(tmp_path)

    found = evidence(move(mover, asked(ground, "rec")))

    assert files(ground.folder(ground.computer)) == files(ground.folder(ground.beamline))
    assert found["files"] == 3


def test_every_file_of_a_long_list_is_in_the_evidence_with_its_checksum(
    mover: GlobusTransfer, ground: Ground, write: Write
) -> None:
    for number in range(230):
        write(f"rec/{number:04}.tif", str(number).encode())
    found = evidence(move(mover, asked(ground, "rec")))
    manifest = found["manifest"]
    assert isinstance(manifest, list)
    rows = [row for row in manifest if isinstance(row, dict)]
    assert [row["path"] for row in rows] == [f"rec/{number:04}.tif" for number in range(230)]
    assert [row["checksum"] for row in rows] == [hashlib.md5(str(number).encode()).hexdigest() for number in range(230)]
    assert found["manifest_complete"] is True


def test_many_files_of_a_folder_go_in_one_task(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    names = [f"many/{number}.tif" for number in range(12)]
    for name in names:
        write(name, name.encode())
    assert evidence(move(mover, asked(ground, *names)))["files"] == 12
    with pytest.raises(SourceMissing, match="many/none"):
        submit(mover, asked(ground, *names, "many/none.tif"), mover.reserve("key"))


@pytest.mark.parametrize(
    "name",
    ["a b.h5", "quo'te\".h5", "$(touch x).h5", "-rf", "x" * 255, "ü" * 100, "日本;rm.h5", "a%2Fb?c#d&e.h5", "~x"],
)
def test_hostile_names_arrive_as_they_are(ground: Ground, mover: GlobusTransfer, write: Write, name: str) -> None:
    write(f"dir/{name}", b"x")
    write(name, b"y")
    evidence(move(mover, asked(ground, name, "dir", label=f"{name}\n")))
    assert files(ground.folder(ground.computer)) == {name: b"y", f"dir/{name}": b"x"}


def test_a_missing_source_is_told_before_a_task_is_made(ground: Ground, mover: GlobusTransfer) -> None:
    with pytest.raises(SourceMissing, match="nothing at"):
        submit(mover, asked(ground, "none.h5"), mover.reserve("key"))


def test_a_source_that_vanishes_ends_the_task(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    path = write("scan.h5", b"x")
    request = asked(ground, "scan.h5")
    ground.control.collections.set(str(ground.computer.uuid), paused=True)
    handle = submit(mover, request, mover.reserve("key"))
    status = mover.poll(request, handle)
    assert isinstance(status, Running)
    path.unlink()
    ground.control.collections.set(str(ground.computer.uuid), paused=False)

    error = failure(wait(mover, request, handle))

    assert isinstance(error, SourceMissing)
    assert "scan.h5" in error.sentence
    assert handle in error.where
    write("scan.h5", b"x")
    evidence(move(mover, request))  # the task that was in the way is really gone


def test_a_denied_source_is_told(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("scan.h5", b"x")
    ground.control.collections.set(str(ground.beamline.uuid), deny=["*scan.h5"])
    with pytest.raises(AccessDenied):
        submit(mover, asked(ground, "scan.h5"), mover.reserve("key"))


@pytest.mark.parametrize(
    ("switch", "kind"),
    [({"writable": False}, AccessDenied), ({"full": True}, NoSpace), ({"full": "quota"}, NoSpace)],
)
def test_a_destination_that_takes_nothing_ends_the_task(
    ground: Ground, mover: GlobusTransfer, write: Write, switch: dict[str, bool], kind: type[OperationFailed]
) -> None:
    write("scan.h5", b"x")
    ground.control.collections.set(str(ground.computer.uuid), **switch)  # type: ignore[arg-type]
    error = failure(move(mover, asked(ground, "scan.h5")))
    assert type(error) is kind
    assert "Next:" in error.sentence


def test_one_corrupted_copy_is_sent_again_and_a_bad_disk_is_told(
    ground: Ground, mover: GlobusTransfer, write: Write
) -> None:
    write("scan.h5", b"x" * 1000)
    path = ground.computer.full_path(RelativePath("scan.h5"))
    ground.control.corrupt(str(ground.computer.uuid), path, times=1)
    evidence(move(mover, asked(ground, "scan.h5")))
    assert files(ground.folder(ground.computer)) == {"scan.h5": b"x" * 1000}

    write("scan.h5", b"y" * 1000)
    ground.control.corrupt(str(ground.computer.uuid), path, times=1000)
    assert isinstance(failure(move(mover, asked(ground, "scan.h5"))), ChecksumMismatch)
    ground.control.corrupt(str(ground.computer.uuid), path, times=0)


def test_a_file_that_grows_meanwhile_is_told(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    path = write("scan.h5", b"x" * 100_000)
    ground.control.collections.set(str(ground.beamline.uuid), bandwidth=CRAWL)
    request = asked(ground, "scan.h5")
    handle = submit(mover, request, mover.reserve("key"))
    until(lambda: status_of(mover, request, handle).progress.bytes_done)
    looks = itertools.count()

    def grown() -> Status | None:
        """Let one block go on; what is written before some of them is seen before the end of the file is."""
        look = next(looks)
        if look % 3 == 0:
            with path.open("ab") as file:
                file.write(b"more")
        ground.control.collections.set(str(ground.beamline.uuid), bandwidth=CRAWL + look % 2)
        return None if isinstance(status := mover.poll(request, handle), Running) else status

    assert isinstance(failure(until(grown)), SourceChanged)


def test_a_connection_trouble_is_waited_for_and_then_told(clients: TransferClients, ground: Ground) -> None:
    (ground.folder(ground.personal) / "scan.h5").write_bytes(b"x")
    request = TransferRequest.of(RelativePath("scan.h5"), source=ground.personal, destination=ground.computer)
    mover = GlobusTransfer(clients)
    ground.control.collections.set(str(ground.computer.uuid), paused=True)
    handle = submit(mover, request, mover.reserve("key"))
    ground.control.collections.set(str(ground.personal.uuid), connected=False)
    ground.control.collections.set(str(ground.computer.uuid), paused=False)
    note = "Globus tries again: Globus Connect is not connected"
    until(lambda: status_of(mover, request, handle).progress.note == note)
    hasty = GlobusTransfer(clients, IMPATIENT)
    error = failure(wait(hasty, request, handle))
    assert type(error) is TransferFailed
    assert "Globus Connect is not connected" in error.sentence

    with pytest.raises(ServiceUnavailable):
        submit(mover, request, mover.reserve("key"))
    ground.control.collections.set(str(ground.personal.uuid), connected=True)
    evidence(move(mover, request))


def test_an_endpoint_offline_for_a_while_only_delays(ground: Ground, clients: TransferClients) -> None:
    mover = GlobusTransfer(clients)
    (ground.folder(ground.personal) / "scan.h5").write_bytes(b"x" * 1000)
    request = TransferRequest.of(RelativePath("scan.h5"), source=ground.personal, destination=ground.computer)
    ground.control.collections.set(str(ground.computer.uuid), paused=True)
    handle = submit(mover, request, mover.reserve("key"))
    ground.control.collections.set(str(ground.personal.uuid), connected=False)
    ground.control.collections.set(str(ground.computer.uuid), paused=False)
    until(lambda: "not connected" in status_of(mover, request, handle).progress.note)
    ground.control.collections.set(str(ground.personal.uuid), connected=True)
    evidence(wait(mover, request, handle))


def test_a_paused_collection_is_no_failure(ground: Ground, clients: TransferClients, write: Write) -> None:
    mover = GlobusTransfer(clients, IMPATIENT)
    write("scan.h5", b"x")
    ground.control.collections.set(str(ground.beamline.uuid), paused="maintenance until noon")
    request = asked(ground, "scan.h5")
    handle = submit(mover, request, mover.reserve("key"))
    until(lambda: "paused" in status_of(mover, request, handle).progress.note)
    assert "paused" in status_of(mover, request, handle).progress.note
    ground.control.collections.set(str(ground.beamline.uuid), paused=False)
    evidence(wait(mover, request, handle))


def test_expired_credentials_of_a_collection_end_the_task(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("scan.h5", b"x")
    ground.control.collections.set(str(ground.computer.uuid), expired=True)
    error = failure(move(mover, asked(ground, "scan.h5")))
    assert isinstance(error, EndpointRefused)


def test_a_lost_answer_is_found_again_and_nothing_is_copied_twice(
    ground: Ground, mover: GlobusTransfer, write: Write
) -> None:
    write("scan.h5", b"x")
    request = asked(ground, "scan.h5")
    token = mover.reserve("key")
    assert mover.find(request, token) is None
    ground.control.faults.add("POST .*/transfer$", "lost_answer")

    with pytest.raises(ServiceUnavailable):
        submit(mover, request, token)

    handle = mover.find(request, token)
    assert handle is not None
    assert submit(mover, request, token) == handle
    evidence(wait(mover, request, handle))
    assert submit(mover, request, token) == handle
    copied = [effect for effect in ground.control.effects("transfer") if effect.key == token]
    assert len(copied) == 1


def test_a_dropped_request_was_not_acted_on(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("scan.h5", b"x")
    request = asked(ground, "scan.h5")
    token = mover.reserve("key")
    ground.control.faults.add("POST .*/transfer$", "drop")
    with pytest.raises(ServiceUnavailable):
        submit(mover, request, token)
    assert mover.find(request, token) is None
    evidence(wait(mover, request, submit(mover, request, token)))


def test_a_killed_submitter_leaves_a_task_that_is_found(
    ground: Ground, mover: GlobusTransfer, write: Write, tmp_path: Path
) -> None:
    write("scan.h5", b"x")
    request = asked(ground, "scan.h5")
    token = mover.reserve("key")
    both = (ground.beamline, ground.computer)
    code = f"""
        import os, signal
        from orchestration.config import Endpoint, credentials
        from orchestration.globus import auth, transfer
        from orchestration.paths import RelativePath
        from orchestration.sandbox.testing import submit
        from orchestration.transfers import TransferRequest
        def end(name):
            return Endpoint.model_validate(name[1]).known_as(name[0])
        ends = {[(end.name, {"uuid": str(end.uuid), "root_path": end.root_path}) for end in both]!r}
        request = TransferRequest.of(RelativePath("scan.h5"), source=end(ends[0]), destination=end(ends[1]))
        mover = transfer.GlobusTransfer(auth.TransferClients(credentials()))
        submit(mover, request, {token!r})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr

    handle = mover.find(request, token)

    assert handle is not None
    assert submit(mover, request, token) == handle
    evidence(wait(mover, request, handle))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_outage_is_known_at_once_with_what_the_service_asks_for(
    ground: Ground, mover: GlobusTransfer, write: Write, status: int
) -> None:
    write("scan.h5", b"x")
    token = mover.reserve("key")
    ground.control.faults.add("POST .*/transfer$", status=status, retry_after=7, times=0)
    with pytest.raises(ServiceUnavailable) as caught:
        submit(mover, asked(ground, "scan.h5"), token)
    assert caught.value.retry_after == 7
    (rule,) = ground.control.faults.every()
    assert rule.hits == 1


def test_an_expired_token_is_renewed(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("scan.h5", b"x")
    request = asked(ground, "scan.h5")
    handle = submit(mover, request, mover.reserve("key"))
    assert ground.control.expire_tokens() > 0
    evidence(wait(mover, request, handle))


def test_wrong_credentials_are_a_mistake_in_the_settings(ground: Ground) -> None:
    wrong = SecretStr("not-the-secret")
    clients = TransferClients(Credentials(globus_client_id=CLIENT_ID, globus_client_secret=wrong))
    with pytest.raises(ConfigError, match="GLOBUS_CLIENT_SECRET") as caught:
        GlobusTransfer(clients).reserve("key")
    assert "not-the-secret" not in f"{caught.value} {clients!r}"


def test_a_data_access_consent_is_given_when_a_collection_asks(ground: Ground, clients: TransferClients) -> None:
    (ground.folder(ground.guarded) / "scan.h5").write_bytes(b"x")
    request = TransferRequest.of(RelativePath("scan.h5"), source=ground.guarded, destination=ground.computer)
    mover = GlobusTransfer(clients, POLICY)
    evidence(move(mover, request))
    evidence(move(mover, request))


def test_our_own_task_in_the_way_is_adopted_and_a_strangers_is_a_conflict(
    ground: Ground, mover: GlobusTransfer, clients: TransferClients, write: Write
) -> None:
    write("scan.h5", b"x")
    request = asked(ground, "scan.h5")
    ground.control.collections.set(str(ground.computer.uuid), paused=True)
    first = submit(mover, request, mover.reserve("key"))
    assert submit(mover, request, mover.reserve("key")) == first
    assert mover.cancel(first) is CancelAnswer.CANCELLED

    by_hand = globus_sdk.TransferData(str(ground.beamline.uuid), str(ground.computer.uuid), label="by hand")
    path = RelativePath("scan.h5")
    by_hand.add_item(ground.beamline.full_path(path), ground.computer.full_path(path))
    stranger = str(clients().submit_transfer(by_hand)["task_id"])
    with pytest.raises(TransferConflict):
        submit(mover, request, mover.reserve("key"))
    clients().cancel_task(stranger)


def test_cancel_is_confirmed_by_the_service(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("scan.h5", os.urandom(300_000))
    ground.control.collections.set(str(ground.beamline.uuid), bandwidth=CRAWL)
    request = asked(ground, "scan.h5")
    handle = submit(mover, request, mover.reserve("key"))

    assert mover.cancel(handle) is CancelAnswer.CANCELLED

    assert isinstance(failure(mover.poll(request, handle)), Cancelled)
    assert mover.cancel(handle) is CancelAnswer.CANCELLED
    ground.control.collections.set(str(ground.beamline.uuid), bandwidth=0.0)
    done = submit(mover, request, mover.reserve("key"))
    evidence(wait(mover, request, done))
    assert mover.cancel(done) is CancelAnswer.ALREADY_FINISHED
    assert mover.cancel("00000000-0000-0000-0000-000000000000") is CancelAnswer.UNKNOWN


def test_progress_tells_bytes_and_rate(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("scan.h5", os.urandom(200_000))
    ground.control.collections.set(str(ground.beamline.uuid), bandwidth=CRAWL)
    request = asked(ground, "scan.h5")
    handle = submit(mover, request, mover.reserve("key"))
    told = until(lambda: found if (found := status_of(mover, request, handle).progress).bytes_per_second else None)
    assert 0 < told.bytes_done < 200_000
    ground.control.collections.set(str(ground.beamline.uuid), bandwidth=0.0)
    evidence(wait(mover, request, handle))


def test_a_success_that_is_none_is_told(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    write("scan.h5", b"x" * 100)
    request = asked(ground, "scan.h5")
    handle = submit(mover, request, mover.reserve("key"))
    evidence(wait(mover, request, handle))
    copy = ground.folder(ground.computer) / "scan.h5"
    copy.write_bytes(b"x" * 99)
    os.utime(copy, (time.time() + 60, time.time() + 60))
    assert isinstance(failure(mover.poll(request, handle)), ChecksumMismatch)
    copy.unlink()
    assert "nothing at" in failure(mover.poll(request, handle)).sentence


def test_an_unknown_collection_is_told_with_its_setting(ground: Ground, mover: GlobusTransfer) -> None:
    nowhere = ground.beamline.model_copy(update={"uuid": "00000000-0000-0000-0000-000000000001"})
    request = TransferRequest.of(RelativePath("scan.h5"), source=nowhere, destination=ground.computer)
    with pytest.raises(EndpointRefused, match="`uuid`"):
        submit(mover, request, mover.reserve("key"))
