"""New names at collections: given once, never in place of what is there, never outside the root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from globus_ground import Ground

from orchestration.errors import AccessDenied, EndpointRefused, InvalidInput, InvalidPath, SourceMissing
from orchestration.globus.auth import TransferClients
from orchestration.globus.rename import GlobusRename
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import perform
from orchestration.ledger.service import CancelAnswer, Failed, Succeeded
from orchestration.paths import RelativePath
from orchestration.sandbox.testing import submit
from orchestration.transfers import RenameRequest

Write = Callable[[str, bytes], Path]


@pytest.fixture
def renamer(clients: TransferClients) -> GlobusRename:
    return GlobusRename(clients)


def asked(ground: Ground, path: str, to: str, *, ours: bool = False) -> RenameRequest:
    return RenameRequest(endpoint=ground.beamline, path=RelativePath(path), to=RelativePath(to), to_is_ours=ours)


def renames(ground: Ground) -> int:
    root = ground.beamline.root_path
    return sum(effect.key.startswith(root) for effect in ground.control.effects("renamed"))


@pytest.mark.parametrize("name", ["scan.h5", "a b", "-rf", "*", "x" * 255])
def test_a_file_or_a_folder_gets_its_name_and_the_folders_above_it(
    ground: Ground, renamer: GlobusRename, write: Write, name: str
) -> None:
    write(f"{name}/0.tif" if name == "a b" else name, b"x")
    request = asked(ground, name, f".aside/2026/1-1/{name}", ours=True)
    handle = submit(renamer, request, "t1")
    status = renamer.poll(request, handle)
    assert isinstance(status, Succeeded)
    assert [path.name for path in ground.folder(ground.beamline).iterdir()] == [".aside"]
    assert (ground.folder(ground.beamline) / ".aside/2026/1-1" / name).exists()
    assert renamer.cancel(handle) is CancelAnswer.ALREADY_FINISHED


def test_nothing_is_replaced_and_nothing_is_made_of_nothing(
    ground: Ground, renamer: GlobusRename, write: Write
) -> None:
    write("one", b"one")
    two = write("two", b"two")
    with pytest.raises(EndpointRefused, match="is there already"):
        submit(renamer, asked(ground, "one", "two"), "t1")
    assert two.read_bytes() == b"two"
    with pytest.raises(SourceMissing):
        submit(renamer, asked(ground, "none", "three"), "t2")
    with pytest.raises(InvalidInput, match="one is in the other"):
        asked(ground, "one", "one/two")
    assert renames(ground) == 0


def test_a_lost_answer_renames_once_and_is_found_though_the_name_is_taken_again(
    ground: Ground, renamer: GlobusRename, write: Write, ledger: Ledger
) -> None:
    write("scan.h5", b"old")
    request = asked(ground, "scan.h5", ".aside/1-1/scan.h5", ours=True)
    assert renamer.find(request, "t1") is None
    scan = ledger.scans.register(beamline="bl832", path=RelativePath("scan.h5"), fingerprint="1:2")
    ground.control.faults.add("POST .*/rename$", "lost_answer")
    ground.control.faults.add("POST .*/mkdir$", "lost_answer")
    ground.control.faults.add("GET .*/stat$", "drop", skip=2)
    operation = Operation(
        scan=scan, step="quarantine", request=request, destination=ground.beamline.place, deadline=30.0
    )
    assert perform(ledger, operation, renamer).evidence["to"] == f"{ground.beamline.root_path}/.aside/1-1/scan.h5"
    assert renames(ground) == 1
    again = write("scan.h5", b"a new scan")
    assert renamer.find(request, "t1") == "t1"
    assert submit(renamer, request, "t1") == "t1"
    assert (again.read_bytes(), renames(ground)) == (b"a new scan", 1)


def test_what_was_renamed_and_is_gone_is_no_success(ground: Ground, renamer: GlobusRename, write: Write) -> None:
    write("scan.h5", b"x")
    request = asked(ground, "scan.h5", "named.h5")
    handle = submit(renamer, request, "t1")
    (ground.folder(ground.beamline) / "named.h5").unlink()
    status = renamer.poll(request, handle)
    assert isinstance(status, Failed)
    assert "not there any more" in status.error.sentence


def test_a_link_on_the_way_is_not_followed(ground: Ground, renamer: GlobusRename, write: Write) -> None:
    scan = write("scan.h5", b"x")
    folder = ground.folder(ground.beamline)
    elsewhere = folder.parent / f"{folder.name}-elsewhere"
    elsewhere.mkdir()
    (folder / ".aside").symlink_to(elsewhere)
    with pytest.raises(InvalidPath, match="is a link"):
        submit(renamer, asked(ground, "scan.h5", ".aside/scan.h5"), "t1")
    (elsewhere / "other.h5").touch()
    with pytest.raises(InvalidPath, match="is a link"):
        submit(renamer, asked(ground, ".aside/other.h5", "other.h5"), "t2")
    assert scan.exists()
    assert [path.name for path in elsewhere.iterdir()] == ["other.h5"]


def test_another_file_system_and_a_denied_one_are_certain_answers_that_say_what_to_do(
    ground: Ground, renamer: GlobusRename, write: Write
) -> None:
    scan = write("scan.h5", b"x")
    collection = str(ground.beamline.uuid)
    ground.control.collections.set(collection, volumes=[f"{ground.beamline.root_path}/.aside"])
    with pytest.raises(EndpointRefused, match="different file systems") as caught:
        submit(renamer, asked(ground, "scan.h5", ".aside/scan.h5"), "t1")
    assert "can_rename: false" in caught.value.next_step
    ground.control.collections.set(collection, volumes=[], writable=False)
    with pytest.raises(AccessDenied):
        submit(renamer, asked(ground, "scan.h5", "named.h5"), "t2")
    assert scan.exists()


def test_a_request_comes_back_from_the_ledger(ground: Ground) -> None:
    request = asked(ground, "a/scan.h5", ".aside/1-1/scan.h5", ours=True)
    assert RenameRequest.parse(request.document(), [ground.computer, ground.beamline]) == request
    with pytest.raises(InvalidInput, match="new name"):
        RenameRequest.parse({"endpoint": str(ground.beamline.uuid)}, [ground.beamline])
