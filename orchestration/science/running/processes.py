"""Waiting for a process without reaping it, and ending its group. Linux; standard library only."""

from __future__ import annotations

import contextlib
import os
import select
import signal


def ended(pid: int, *, timeout: float) -> bool:
    """Wait until the process ends, without reaping it: it still holds its number, so that no stranger is killed."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)


def kill_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
