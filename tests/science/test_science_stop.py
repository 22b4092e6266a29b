"""A command that is told to stop does stop, whatever Python is at just then."""

from __future__ import annotations

import subprocess
import sys

LOSING = """
import os, signal, threading, weakref
import click
from orchestration.science import cli

@click.command()
def lose():
    class Gone:
        pass

    def told(_):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

    gone = Gone()
    watch = weakref.ref(gone, told)
    del gone  # what is raised in `told` is dropped
    threading.Event().wait(20.0)
    print("it went on")

cli.Deferred.get_command = lambda self, context, name: lose
raise SystemExit(cli.main(["lose"]))
"""


def test_a_stop_that_python_drops_is_heard_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", LOSING], capture_output=True, text=True, timeout=60.0, check=False)
    assert done.returncode == 130, done
    assert done.stdout == ""
    assert "told to stop" in done.stderr
