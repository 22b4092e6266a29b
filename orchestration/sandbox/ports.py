"""Ports that are chosen before the servers start that listen on them."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path

from orchestration.errors import OperationFailed

_CHOICE = range(20_000, 32_000)
"""Below the ports that the kernel gives to connections: none of those can take one before its server does."""

_taken: set[int] = set()
"""By this process; no other one of this user takes them as long as it lives."""
_taking = threading.Lock()


def take(wish: int = 0) -> int:
    """The port wished for, if it can be had, else any other that nobody listens on and nobody has taken.

    Raises: OperationFailed, if there is none.
    """
    with _taking:
        others = (port for port in random.sample(_CHOICE, len(_CHOICE)) if port not in _taken)
        for port in (wish, *others):
            if port and _is_free(port) and _lock(port):
                _taken.add(port)
                return port
    raise OperationFailed("this machine has no free port", where="127.0.0.1", next_step="end what holds them")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _lock(port: int) -> bool:
    """One byte of a file for each port; the system gives it back when this process ends, however it does."""
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _locks() -> int:
    """Never closed: that would give all locks back."""
    path = Path(tempfile.gettempdir()) / f"beamline-ports-{os.getuid()}.lock"
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
