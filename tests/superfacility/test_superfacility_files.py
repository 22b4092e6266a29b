"""Small files and commands at the facility, and transfers between its machines."""

from __future__ import annotations

import io

import httpx
import pytest
from superfacility_lab import Lab, SfApiError, alive, until

LIMIT = 64 * 1024


def test_a_directory_is_listed(lab: Lab) -> None:
    (lab.folder / "scan.h5").write_bytes(b"12345")
    (lab.folder / "raw").mkdir()
    (lab.folder / "link").symlink_to(lab.folder / "scan.h5")
    found = {path.name: path for path in lab.machine.ls(str(lab.folder))}
    assert (found["scan.h5"].size, found["scan.h5"].is_file()) == (5, True)
    assert found["raw"].is_dir()
    assert [path.is_symlink() for name, path in found.items() if name.startswith("link")] == [True]
    (itself,) = lab.machine.ls(str(lab.folder), directory=True)
    assert (itself.name, itself.is_dir()) == (lab.folder.name, True)
    assert lab.machine.ls(str(lab.folder / "raw")) == []


def test_names_are_listed_as_they_are(lab: Lab) -> None:
    names = ["a b", " lead", "back\\slash", "new\nline", "tab\there", "quote'\"", "ünï", "a -> b"]
    for name in names:
        (lab.folder / name).touch()
    assert sorted(path.name for path in lab.machine.ls(str(lab.folder))) == sorted(names)


def test_a_file_is_listed_by_its_whole_path(lab: Lab) -> None:
    (lab.folder / "one.txt").touch()
    (entry,) = lab.client.get(f"utilities/ls/perlmutter/{lab.folder}/one.txt").json()["entries"]
    assert entry["name"] == f"{lab.folder}/one.txt"
    with pytest.raises(SfApiError, match="No such file or directory"):
        lab.machine.ls(f"{lab.folder}/two.txt")


def test_files_are_written_and_read(lab: Lab) -> None:
    (directory,) = lab.machine.ls(str(lab.folder), directory=True)
    with (directory / "new.txt").open("w") as file:
        file.write("päivää\n")
    assert (lab.folder / "new.txt").read_text() == "päivää\n"
    with (directory / "new.txt").open("r") as file:
        assert file.read() == "päivää\n"
    content = bytes(range(256))
    (directory / "new.bin").upload(io.BytesIO(content))
    assert (lab.folder / "new.bin").read_bytes() == content
    assert (directory / "new.bin").download(binary=True).read() == content
    with pytest.raises(SfApiError, match="decode"):
        (directory / "new.bin").download()


def test_what_is_too_large_for_this_way_is_refused(lab: Lab) -> None:
    (lab.folder / "large").write_bytes(b"x" * (LIMIT + 1))
    (large,) = lab.machine.ls(f"{lab.folder}/large")
    with pytest.raises(SfApiError, match="too large"):
        large.download()
    with pytest.raises(httpx.HTTPStatusError, match="413"):
        large.upload(io.BytesIO(b"y" * (LIMIT + 1)))
    with pytest.raises(httpx.HTTPStatusError, match="413"):
        large.upload(io.BytesIO(b"y" * 4 * LIMIT))
    assert large.upload(io.BytesIO(b"y" * LIMIT))
    assert (lab.folder / "large").read_bytes() == b"y" * LIMIT


@pytest.mark.parametrize("path", ["/etc/passwd", "/", "{folder}/../../facility.sqlite", "{folder}/out/passwd"])
def test_nothing_else_of_the_machine_is_reached(lab: Lab, path: str) -> None:
    (lab.folder / "out").symlink_to("/etc")
    asked = path.format(folder=lab.folder)
    assert "Permission denied" in lab.client.get(f"utilities/ls/perlmutter/{asked}").json()["error"]
    assert "Permission denied" in lab.client.get(f"utilities/download/perlmutter/{asked}").json()["error"]
    answer = lab.client.put(f"utilities/upload/perlmutter/{asked}", files={"file": io.BytesIO(b"")}).json()
    assert "Permission denied" in answer["error"]


def test_a_command_answers_with_what_it_printed(lab: Lab) -> None:
    assert lab.machine.run(["printf", "%s", "$HOME"]) == "$HOME"  # by no shell
    assert lab.machine.run("bash -c 'echo $HOME; pwd'").split() == [str(lab.home)] * 2
    lab.machine.run(f"mkdir -p {lab.folder}/a/b")
    assert (lab.folder / "a/b").is_dir()
    with pytest.raises(SfApiError, match="No such file"):
        lab.machine.run(f"ls {lab.folder}/none")
    with pytest.raises(SfApiError, match="command not found"):
        lab.machine.run("nosuchcommand")


def test_words_of_a_command_are_joined_without_quotes_by_the_client(lab: Lab) -> None:
    assert lab.machine.run(["printf", "<%s>", "a b"]) == "<a><b>"


def test_a_failed_command_is_a_completed_task(lab: Lab) -> None:
    task = lab.machine.run_task("bash -c 'echo out; echo err >&2; exit 4'")
    task._wait()
    assert (task.status, task.result.status, task.result.exit_code) == ("COMPLETED", "error", 4)
    assert (task.result.output, task.result.error) == ("out\n", "err\n")


def test_a_command_is_cancelled_with_its_task(lab: Lab) -> None:
    task = lab.machine.run_task(f"bash -c 'echo $$ > {lab.folder}/pid; sleep 60'")
    until(lambda: (lab.folder / "pid").exists() and (lab.folder / "pid").read_text())
    task.cancel()
    task.update()
    assert task.status == "CANCELLED"
    pid = int((lab.folder / "pid").read_text())
    until(lambda: not alive(pid))
    listed = lab.client.get("tasks").json()["tasks"]
    assert [each["status"] for each in listed] == ["cancelled"]


@pytest.mark.parametrize("command", ["'unclosed", "", " "])
def test_what_is_no_command_is_refused(lab: Lab, command: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        lab.client.post("utilities/command/perlmutter", data={"executable": command})


def test_a_transfer_copies_and_a_failed_one_says_why(lab: Lab) -> None:
    (lab.folder / "scan").mkdir()
    (lab.folder / "scan" / "a.tiff").write_bytes(b"x" * 1000)
    (lab.folder / "target").mkdir()
    globus = lab.client.storage.globus()
    transfer = globus.start_transfer("perlmutter", "dtns", f"{lab.folder}/scan", f"{lab.folder}/target", label="x")
    assert transfer.complete(timeout=60) == "SUCCEEDED"
    assert (lab.folder / "target/scan/a.tiff").stat().st_size == 1000
    assert globus.transfer(transfer.transfer_id).bytes_transferred >= 1000
    for source, reason in ((f"{lab.folder}/none", "No such file"), ("/etc/passwd", "Permission denied")):
        failed = globus.start_transfer("perlmutter", "dtns", source, str(lab.folder))
        assert failed.complete(timeout=60) == "FAILED"
        assert reason in failed.reason
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        globus.start_transfer("summit", "dtns", "/a", "/b")
