"""Waiting for a process without reaping it, and ending its group. Linux; standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For the child, between fork and exec: be killed when what looks after it is."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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
