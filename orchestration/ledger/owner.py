"""Who holds an operation, and whether that process still lives."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """One process of one host. `started` tells it from a later process that was given the same number."""

    host: str
    pid: int
    started: str
    nonce: str

    @classmethod
    def here(cls) -> Owner:
        """An owner for a claim made by this process."""
        return cls(_host(), os.getpid(), _start_time(os.getpid()) or "?", uuid.uuid4().hex[:8])

    @classmethod
    def parse(cls, text: str) -> Owner:
        host, pid, started, nonce = text.rsplit("/", 3)
        return cls(host, int(pid), started, nonce)

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started}/{self.nonce}"

    def certainly_dead(self) -> bool:
        """True only if it ran on this host and that process is gone: its lease need not be waited for."""
        if self.host != _host():
            return False
        started = _start_time(self.pid)
        if started is None:
            return not _exists(self.pid)
        return self.started not in {"?", started}


@functools.cache
def _host() -> str:
    """Where a process number means something: this machine since it booted, and this container on it.

    Containers may share a host name and always share the kernel; a number of one says nothing in another. What ran
    before a reboot is a stranger, whose lease is waited for.
    """
    marks = [socket.gethostname()]
    with contextlib.suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        marks.append(os.readlink("/proc/self/ns/pid").partition(":")[2])
    return ":".join(marks)


def _start_time(pid: int) -> str | None:
    """The kernel's start time of a process; None if it is gone, or where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _exists(pid: int) -> bool:
    if Path("/proc/self/stat").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
