"""Deletions at, and looks at, directories of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration.config import Endpoint
from orchestration.errors import InvalidInput, InvalidPath, OrchestrationError, SourceChanged, SourceMissing
from orchestration.ledger.service import CancelAnswer, Failed, Running, Status, Succeeded
from orchestration.local.delete import LocalDelete, inspect
from orchestration.paths import RelativePath
from orchestration.sandbox import documents
from orchestration.sandbox.testing import submit
from orchestration.transfers import DeleteRequest, shown


@pytest.fixture
def deleter(tmp_path: Path) -> LocalDelete:
    return LocalDelete(state=tmp_path / "state")


@pytest.fixture
def data(here: Endpoint) -> Path:
    assert here.mount is not None
    return here.mount


def request_of(here: Endpoint, *names: str, ignore_missing: bool = False) -> DeleteRequest:
    paths = tuple(RelativePath(name) for name in names)
    return DeleteRequest(endpoint=here, paths=paths, ignore_missing=ignore_missing)


def delete(deleter: LocalDelete, request: DeleteRequest, token: str = "t1") -> Status:
    submit(deleter, request, token)
    end = time.monotonic() + 10
    while isinstance(status := deleter.poll(request, token), Running):
        assert time.monotonic() < end
        time.sleep(0.01)
    return status


def failure(status: Status) -> OrchestrationError:
    assert isinstance(status, Failed), status
    return status.error


@pytest.mark.parametrize("name", ["scan.h5", "a b", "-rf", "$(x)", "*", "x" * 255])
def test_exactly_what_is_named_is_deleted(deleter: LocalDelete, here: Endpoint, data: Path, name: str) -> None:
    (data / name).write_bytes(b"xy")
    (data / "other").touch()
    (data / "rec").mkdir()
    (data / "rec" / "0.tif").write_bytes(b"xyz")

    status = delete(deleter, request_of(here, name, "rec"))

    assert isinstance(status, Succeeded)
    assert status.evidence["bytes"] == 5
    assert [path.name for path in data.iterdir()] == ["other"]


def replaced(here: Endpoint, data: Path, *, folder: bool = False) -> tuple[DeleteRequest, Path]:
    """A request for three, of which the second is written to after it was seen: there is as much as before."""
    file = data / "rec" / "0.tif" if folder else data / "rec"
    file.parent.mkdir(exist_ok=True)
    for each in (data / "first", file, data / "last"):
        each.write_bytes(b"abc")
    request = request_of(here, "first", "rec", "last", ignore_missing=True)
    seen = tuple(shown(inspect(here, path)) for path in request.paths)
    file.write_bytes(b"xyz")
    os.utime(file, (1, 1))  # also if it is older
    return replace(request, seen=seen), file


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_not_what_was_seen_is_left_and_named_and_all_else_goes(
    deleter: LocalDelete, here: Endpoint, data: Path, folder: bool
) -> None:
    request, file = replaced(here, data, folder=folder)
    status = delete(deleter, request)
    error = failure(status)
    assert isinstance(error, SourceChanged)
    assert error.what.startswith(f"1 of 3 were left alone, the others are gone: {data / 'rec'} is not what it was")
    assert isinstance(status, Failed)
    assert [row["path"] for row in documents.objects(status.evidence, "refused")] == ["rec"]
    assert [row["path"] for row in documents.objects(status.evidence, "deleted")] == ["first", "last"]
    assert ([each.name for each in data.iterdir()], file.read_bytes()) == (["rec"], b"xyz")
    again = replace(request, seen=tuple(shown(inspect(here, path)) for path in request.paths))
    assert isinstance(delete(deleter, again, "t2"), Succeeded)
    assert not list(data.iterdir())


def test_a_link_out_of_the_endpoint_in_place_of_what_was_seen_is_left(
    deleter: LocalDelete, here: Endpoint, data: Path, tmp_path: Path
) -> None:
    request, file = replaced(here, data)
    file.unlink()
    file.symlink_to(tmp_path / "precious")
    assert isinstance(failure(delete(deleter, request)), SourceChanged)
    assert [each.name for each in data.iterdir()] == ["rec"]
    assert file.is_symlink()


def test_a_missing_path_stops_it_before_anything_is_deleted(deleter: LocalDelete, here: Endpoint, data: Path) -> None:
    (data / "scan.h5").touch()
    assert isinstance(failure(delete(deleter, request_of(here, "scan.h5", "none"))), SourceMissing)
    assert (data / "scan.h5").exists()
    assert isinstance(delete(deleter, request_of(here, "scan.h5", "none", ignore_missing=True), "t2"), Succeeded)
    assert not (data / "scan.h5").exists()


def test_of_a_link_only_the_link_is_deleted(deleter: LocalDelete, here: Endpoint, data: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (data / "kept").touch()
    (data / "link").symlink_to("kept")
    (data / "rec").mkdir()
    (data / "rec" / "inside").symlink_to("../kept")
    assert isinstance(delete(deleter, request_of(here, "link", "rec")), Succeeded)
    assert [path.name for path in data.iterdir()] == ["kept"]

    (data / "out").symlink_to(tmp_path / "precious")
    with pytest.raises(InvalidPath):
        submit(deleter, request_of(here, "out/x"), "t2")
    assert isinstance(delete(deleter, request_of(here, "out"), "t3"), Succeeded)
    assert (tmp_path / "precious").exists()


def kill_in_a_deletion(data: Path, state: Path, request: DeleteRequest, moment: str, *, spared: int = 0) -> None:
    """It dies when it comes there, after it was `spared` so often."""
    code = f"""
        import os, signal, time
        from itertools import count
        from pathlib import Path
        import orchestration.local.delete as module
        from orchestration.config import Endpoint
        from orchestration.sandbox.testing import submit
        from orchestration.transfers import DeleteRequest
        here = Endpoint(root_path="/data", mount=Path({str(data)!r})).known_as("data")
        real, times = module.{moment}, count()
        def die(*arguments):
            if next(times) == {spared}:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        module.{moment} = die
        deleter = module.LocalDelete(state=Path({str(state)!r}))
        submit(deleter, DeleteRequest.parse({request.document()!r}, [here]), "t1")
        time.sleep(20)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("moment", ["JobFolder.write", "fsync_directory", "remove"])
def test_killed_at_any_moment_it_is_carried_on_and_a_new_file_of_that_name_stays(
    deleter: LocalDelete, here: Endpoint, data: Path, tmp_path: Path, moment: str
) -> None:
    (data / "rec").mkdir()
    (data / "rec" / "0.tif").write_bytes(b"x")
    kill_in_a_deletion(data, tmp_path / "state", request_of(here, "rec"), moment)
    was_gone = not (data / "rec").exists()
    if was_gone:
        (data / "rec").write_text("a new scan")

    status = delete(deleter, request_of(here, "rec"))

    assert isinstance(status, Succeeded)
    assert [path.name for path in data.iterdir()] == (["rec"] if was_gone else [])


@pytest.mark.parametrize(("moment", "spared"), [("JobFolder.write", 1), ("remove", 0), ("remove", 1)])
def test_killed_between_two_that_go_it_still_leaves_the_one_that_was_replaced(
    deleter: LocalDelete, here: Endpoint, data: Path, tmp_path: Path, moment: str, spared: int
) -> None:
    request, file = replaced(here, data)
    kill_in_a_deletion(data, tmp_path / "state", request, moment, spared=spared)
    assert not (data / "first").exists()
    (data / "first").write_text("a new scan")
    status = delete(deleter, request)
    assert isinstance(status, Failed)
    assert [row["path"] for row in documents.objects(status.evidence, "refused")] == ["rec"]
    assert sorted(each.name for each in data.iterdir()) == ["first", "rec"]
    assert ((data / "first").read_text(), file.read_bytes()) == ("a new scan", b"xyz")


def test_what_changed_since_the_deletion_began_stays(
    deleter: LocalDelete, here: Endpoint, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.local import delete as module

    (data / "scan.h5").write_text("old")

    def survey_then_change(deletion: module._Deletion) -> dict[str, object]:
        found = survey(deletion)
        (data / "scan.h5").write_text("a longer, new one")
        return found

    survey = module._Deletion._survey
    monkeypatch.setattr(module._Deletion, "_survey", survey_then_change)
    assert isinstance(failure(delete(deleter, request_of(here, "scan.h5"))), SourceChanged)
    assert (data / "scan.h5").read_text() == "a longer, new one"


def test_what_was_cancelled_before_it_began_is_never_deleted(deleter: LocalDelete, here: Endpoint, data: Path) -> None:
    (data / "scan.h5").touch()
    assert deleter.cancel("t1") is CancelAnswer.CANCELLED
    failure(delete(deleter, request_of(here, "scan.h5")))
    assert (data / "scan.h5").exists()


def test_a_look_tells_sizes_and_all_files(here: Endpoint, data: Path, tmp_path: Path) -> None:
    (data / "rec" / "a").mkdir(parents=True)
    (data / "rec" / "a" / "0.tif").write_bytes(b"xyz")
    (data / "rec" / "b.json").write_bytes(b"x")
    os.utime(data / "rec" / "b.json", (5000000000, 5000000000))

    found = inspect(here, RelativePath("rec"))

    assert found is not None
    assert (found.is_directory, found.size, found.modified) == (True, 4, 5000000000)
    assert found.manifest == (("a/0.tif", 3), ("b.json", 1))
    single = inspect(here, RelativePath("rec/b.json"))
    assert single is not None
    assert (single.is_directory, single.size, single.manifest) == (False, 1, ())
    assert inspect(here, RelativePath("none")) is None
    (data / "rec" / "out").symlink_to(tmp_path)
    with pytest.raises(InvalidPath):
        inspect(here, RelativePath("rec"))


def test_a_deletion_of_nothing_is_refused(here: Endpoint) -> None:
    with pytest.raises(InvalidInput):
        DeleteRequest(endpoint=here, paths=())
    request = request_of(here, "a")
    assert request.document() == {"endpoint": "data", "paths": ["/data/a"], "ignore_missing": False}


def test_empty_folders_go_and_no_file_with_them_whenever_it_came(
    deleter: LocalDelete, here: Endpoint, data: Path
) -> None:
    request = replace(request_of(here, "day", ignore_missing=True), only_empty=True)
    (data / "other").touch()
    (data / "day" / "1-1").mkdir(parents=True)
    (data / "day" / "2-1").mkdir()
    assert isinstance(delete(deleter, request, "t1"), Succeeded)
    assert not (data / "day").exists()
    assert isinstance(delete(deleter, request, "t2"), Succeeded)

    for token, name in (("t3", "day/1-1/late.h5"), ("t4", "day/late.h5"), ("t5", "day")):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("precious")
        assert isinstance(failure(delete(deleter, request, token)), SourceChanged)
        assert (data / name).read_text() == "precious"
        (data / name).unlink()
        shutil.rmtree(data / "day", ignore_errors=True)
    (data / "elsewhere").mkdir()
    (data / "day").mkdir()
    (data / "day" / "1-1").symlink_to(data / "elsewhere")
    assert isinstance(failure(delete(deleter, request, "t6")), SourceChanged)
    assert (data / "elsewhere").is_dir()
    assert (data / "day" / "1-1").is_symlink()
    with pytest.raises(InvalidInput, match="only what is empty"):
        replace(request, endpoint=here.model_copy(update={"uuid": uuid.uuid4()}))


def test_what_was_never_submitted_is_not_begun_by_a_question_about_it(
    deleter: LocalDelete, here: Endpoint, data: Path
) -> None:
    (data / "scan.h5").write_text("x")
    error = failure(deleter.poll(request_of(here, "scan.h5"), "made up"))
    assert "knows nothing of the deletion" in error.what
    assert (data / "scan.h5").exists()
