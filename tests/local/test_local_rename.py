"""New names in directories of this machine: given once, never in place of what is there, never outside the root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.config import Endpoint
from orchestration.errors import EndpointRefused, InvalidInput, InvalidPath, SourceMissing
from orchestration.ledger.service import CancelAnswer, Failed, Succeeded
from orchestration.local import renaming
from orchestration.local.rename import LocalRename
from orchestration.paths import RelativePath
from orchestration.sandbox.testing import submit
from orchestration.transfers import RenameRequest

MEMORY = Path("/dev/shm")


@pytest.fixture
def data(here: Endpoint) -> Path:
    assert here.mount is not None
    return here.mount


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one file system only")
    folder = MEMORY / f"rename-{uuid.uuid4().hex}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def asked(here: Endpoint, path: str, to: str, *, ours: bool = False) -> RenameRequest:
    return RenameRequest(endpoint=here, path=RelativePath(path), to=RelativePath(to), to_is_ours=ours)


@pytest.mark.parametrize("name", ["scan.h5", "a b", "-rf", "$(x)", "*", "x" * 255])
def test_a_file_or_a_folder_gets_its_name_and_the_folders_above_it(here: Endpoint, data: Path, name: str) -> None:
    (data / name).mkdir()
    (data / name / "0.tif").write_bytes(b"x")
    request = asked(here, name, f".aside/2026/1-1/{name}", ours=True)
    renamer = LocalRename()
    assert renamer.find(request, "t1") is None
    handle = submit(renamer, request, "t1")
    assert isinstance(renamer.poll(request, handle), Succeeded)
    assert renamer.find(request, "t1") == handle
    assert [path.name for path in data.iterdir()] == [".aside"]
    assert (data / ".aside/2026/1-1" / name / "0.tif").read_bytes() == b"x"
    assert renamer.cancel(handle) is CancelAnswer.ALREADY_FINISHED
    (data / name).write_text("a new scan")
    assert submit(renamer, request, "t1") == handle
    assert (data / name).read_text() == "a new scan"


@pytest.mark.parametrize("atomic", [True, False])
def test_nothing_is_replaced_and_nothing_is_made_of_nothing(
    here: Endpoint, data: Path, atomic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not atomic:
        monkeypatch.setattr(renaming, "_at_once", lambda *_: False)
    (data / "one").write_text("one")
    (data / "two").write_text("two")
    with pytest.raises(EndpointRefused, match="is there already"):
        submit(LocalRename(), asked(here, "one", "two"), "t1")
    assert (data / "two").read_text() == "two"
    with pytest.raises(SourceMissing):
        submit(LocalRename(), asked(here, "none", "three"), "t2")
    with pytest.raises(InvalidInput, match="one is in the other"):
        asked(here, "one", "one/two")
    request = asked(here, "one", "three")
    handle = submit(LocalRename(), request, "t3")
    assert (data / "three").read_text() == "one"
    (data / "three").unlink()
    assert isinstance(LocalRename().poll(request, handle), Failed)


def test_no_link_leads_out_of_the_root_and_a_link_itself_is_what_is_renamed(
    here: Endpoint, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    (data / "out").symlink_to(tmp_path / "outside")
    (data / "scan.h5").touch()
    for path, to in (("scan.h5", "out/scan.h5"), ("out/precious", "precious")):
        with pytest.raises(InvalidPath):
            submit(LocalRename(), asked(here, path, to), "t1")
    submit(LocalRename(), asked(here, "out", "kept/out"), "t2")
    assert (data / "kept" / "out").is_symlink()
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["precious"]


def test_another_file_system_is_a_certain_answer_that_says_what_to_do(
    here: Endpoint, data: Path, other_disk: Path
) -> None:
    (data / "scan.h5").touch()
    moved = here.model_copy(update={"mount": Path("/")})
    request = asked(moved, str(data / "scan.h5").strip("/"), f"{str(other_disk).strip('/')}/scan.h5")
    with pytest.raises(EndpointRefused, match="different file systems") as caught:
        submit(LocalRename(), request, "t1")
    assert "can_rename: false" in caught.value.next_step
    assert (data / "scan.h5").exists()


@pytest.mark.parametrize("moment", ["rename_new", "fsync_directory"])
def test_killed_before_and_after_it_is_carried_on(here: Endpoint, data: Path, moment: str) -> None:
    (data / "scan.h5").write_text("old")
    code = f"""
        import os, signal
        from pathlib import Path
        import orchestration.local.rename as module
        from orchestration.config import Endpoint
        from orchestration.paths import RelativePath
        from orchestration.sandbox.testing import submit
        from orchestration.transfers import RenameRequest
        here = Endpoint(root_path="/data", mount=Path({str(data)!r})).known_as("data")
        module.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        request = RenameRequest(endpoint=here, path=RelativePath("scan.h5"), to=RelativePath(".a/1-1/scan.h5"))
        submit(module.LocalRename(), request, "t1")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    request = asked(here, "scan.h5", ".a/1-1/scan.h5")
    handle = LocalRename().find(request, "t1") or submit(LocalRename(), request, "t1")
    assert isinstance(LocalRename().poll(request, handle), Succeeded)
    assert not os.path.lexists(data / "scan.h5")
    assert (data / ".a/1-1/scan.h5").read_text() == "old"
