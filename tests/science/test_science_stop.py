"""A command that is told to stop does stop, whatever Python is at just then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestration.science.stopping import Stopped, look, pause, stoppable

COMMAND = """
import os, signal, threading, weakref
import click
from orchestration.science import cli
from orchestration.science.stopping import pause

@click.command()
def told():
    {body}

cli.Deferred.get_command = lambda self, context, name: told
raise SystemExit(cli.main(["told"]))
"""

WHILE_SOMETHING_IS_CLEARED_AWAY = """
    class Gone:
        pass

    def last_words(_):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

    gone = Gone()
    watch = weakref.ref(gone, last_words)
    del gone  # what is raised in `last_words` is dropped
    pause(20.0)
    print("it went on")
"""

AT_ANY_MOMENT = """
import faulthandler, random, signal
from orchestration.science.stopping import Stopped, look, stoppable
from orchestration.science.xpcs.threads import in_threads

moment, stopped = random.Random(4), 0
faulthandler.dump_traceback_later(45.0, exit=True)
for _ in range(3000):
    with stoppable():
        signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, moment.uniform(1e-6, 1e-3))
        try:
            in_threads(64, lambda low, high: None)
            look()
        except Stopped:
            stopped += 1
        signal.setitimer(signal.ITIMER_REAL, 0.0)
print(stopped)
"""


def ran(program: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", program]
    return subprocess.run(words, capture_output=True, text=True, timeout=60.0, check=False)


def test_a_stop_is_heard_where_python_drops_what_is_raised() -> None:
    done = ran(COMMAND.format(body=WHILE_SOMETHING_IS_CLEARED_AWAY))
    assert done.returncode == 130, done
    assert done.stdout == ""
    assert "told to stop" in done.stderr


def test_a_stop_at_any_moment_leaves_no_thread_waiting() -> None:
    """What is raised between taking a lock and using it leaves it taken: seen within hundreds of such stops."""
    done = ran(AT_ANY_MOMENT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert 300 < int(done.stdout) <= 3000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_checksum_of_a_large_file_is_given_up(tmp_path: Path, number: signal.Signals) -> None:
    """An hour's work for nothing, otherwise, and a scheduler that loses its patience."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(2**42)
    words = [sys.executable, "-m", "orchestration.science", "checksums", str(large)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, preexec_fn=lambda: hear(number)) as process:
        try:
            reading(process, large)
            process.send_signal(number)
            out, err = process.communicate(timeout=30.0)
        finally:
            process.kill()
    assert (process.returncode, out) == (130, "")
    assert "told to stop" in err


def hear(number: signal.Signals) -> None:
    """Who runs the tests in the background, or with `nohup`, has them and all that they start ignore it."""
    signal.signal(number, signal.SIG_DFL)


def reading(process: subprocess.Popen[str], path: Path) -> None:
    """Wait until the process has the file open."""
    until, end = threading.Event(), time.monotonic() + 60.0
    while not any(os.path.samefile(each, path) for each in Path(f"/proc/{process.pid}/fd").iterdir() if each.exists()):
        assert process.poll() is None
        assert time.monotonic() < end
        until.wait(0.01)


def test_who_waits_stops_at_once() -> None:
    began = time.monotonic()
    soon = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    with stoppable():
        soon.start()
        with pytest.raises(Stopped):
            pause(60.0)
    soon.join()
    assert time.monotonic() - began < 30.0


def test_all_that_look_stop_as_often_as_they_look() -> None:
    with stoppable():
        look()
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2):
            with pytest.raises(Stopped):
                look()
            with pytest.raises(Stopped):
                pause(60.0)


def test_a_stop_is_over_with_what_was_stopped() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            look()
    assert signal.getsignal(signal.SIGTERM) == before
    look()
    pause(0.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_was_ignored_stays_so(number: signal.Signals) -> None:
    """As by a shell for what it runs in the background, and by `nohup`."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), number)
            look()
    finally:
        signal.signal(number, before)
