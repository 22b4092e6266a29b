"""A program that waits is told to stop at any moment, and stops."""

from __future__ import annotations

import subprocess
import sys

AT_ANY_MOMENT = """
import faulthandler, random, signal, threading
from orchestration.signals import on_stop

stop, moment = threading.Event(), random.Random(4)
faulthandler.dump_traceback_later(45.0, exit=True)
on_stop(stop.set)
signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
for _ in range(2000):
    stop.clear()
    signal.setitimer(signal.ITIMER_REAL, moment.uniform(1e-6, 1e-3))
    while not stop.wait(1e-6):
        pass
"""


def test_a_stop_at_any_moment_of_a_wait_is_heard() -> None:
    """A handler that sets what is waited for hangs within the first ten."""
    words = [sys.executable, "-c", AT_ANY_MOMENT]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60.0, check=False)
    assert (done.returncode, done.stderr) == (0, "")
