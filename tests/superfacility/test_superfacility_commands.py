"""Commands of the login node: real processes, whatever they do with their input, their time and their children."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from superfacility_lab import alive, until

from orchestration.sandbox.superfacility import commands
from orchestration.sandbox.superfacility.scheduler import Output

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def run(
    text: str, folder: Path, *, stdin: bytes = b"", limit: float = 60.0, stop: threading.Event | None = None
) -> Output:
    return commands.run(
        ["sh", "-c", text], environment=ENVIRONMENT, directory=folder, stdin=stdin, limit=limit, stop=stop
    )


def test_input_is_given_to_a_command_that_takes_its_time(tmp_path: Path) -> None:
    content = os.urandom(200_000)  # more than a pipe holds
    output = run("sleep 0.3; cat; sleep 0.2; echo done >&2", tmp_path, stdin=content)
    assert output == Output(code=0, stdout=content, stderr=b"done\n")


def test_a_command_at_its_limit_is_ended_with_its_children(tmp_path: Path) -> None:
    output = run("sleep 60 & echo $! > child; wait", tmp_path, stdin=b"x", limit=0.3)
    assert (output.code, output.error) == (commands.STOPPED, "command timed out\n")
    child = int((tmp_path / "child").read_text())
    until(lambda: not alive(child))


def test_what_left_the_group_of_a_stopped_command_is_not_waited_for(tmp_path: Path) -> None:
    """It still holds the pipes of the command, and would for a minute."""
    stop = threading.Event()
    begun = tmp_path / "begun"

    def stop_once_begun() -> None:
        until(begun.exists)
        stop.set()

    threading.Thread(target=stop_once_begun, daemon=True).start()
    output = run("setsid sh -c 'echo $$ > leaver; touch begun; exec sleep 61' & wait", tmp_path, stop=stop)
    leaver = int((tmp_path / "leaver").read_text())
    assert output.code == commands.STOPPED
    assert alive(leaver), "it was waited for"
    os.kill(leaver, 9)


def test_a_command_is_not_left_behind_by_an_interrupt(tmp_path: Path) -> None:
    class Interrupted(threading.Event):
        def is_set(self) -> bool:
            if (tmp_path / "pid").exists():
                raise KeyboardInterrupt
            return False

    with pytest.raises(KeyboardInterrupt):
        run("echo $$ > part; mv part pid; exec sleep 60", tmp_path, stop=Interrupted())
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["nosuchcommand"], 127, "command not found"), (["/etc"], 126, "ermission"), (["a\0b"], 126, "null byte")],
)
def test_what_cannot_be_run_is_told_as_a_shell_tells_it(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    output = commands.run(words, environment=ENVIRONMENT, directory=tmp_path, limit=60.0)
    assert output.code == code
    assert said in output.error
