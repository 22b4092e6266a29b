"""What the system tells a program to do."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable


def on_stop(act: Callable[[], object]) -> None:
    """Have this done, in a thread of its own, when SIGTERM or Ctrl-C tell the program to stop; for the main thread.

    A handler that set an Event itself would wait for ever where it interrupts the thread that has the Event's lock.
    """
    told: queue.SimpleQueue[int] = queue.SimpleQueue()  # which may be put to in a handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: told.put(number))

    def wait() -> None:
        while told.get():
            act()

    threading.Thread(target=wait, name="told to stop", daemon=True).start()
