"""Carries small files for another process: ``python -m orchestration.local.porter``.

Python runs one thread of a process at a time, and with small files it is Python that is waited for. Orders come pickled
on standard input, what came of them goes to standard output. It ends when there are no more, or who gives them is gone.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys

from orchestration.errors import OrchestrationError
from orchestration.local.small import Order


def main() -> None:
    # Ctrl-C and the end of a container reach it too: who gives the orders sees to what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    master = os.getppid()

    def check() -> None:
        if os.getppid() != master:
            raise SystemExit("who wanted these files copied is gone")

    while True:
        try:
            order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
        except EOFError:
            return
        try:
            answer: object = order.perform(check)
        except OrchestrationError as error:
            answer = error
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
