"""One process of a pool, as the facility sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import orchestration
from orchestration.sandbox.processes import MARK, Process

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "LD_LIBRARY_PATH", MARK)
"""All that a task sees of the facility's environment: an endpoint is another machine."""

_unreaped: set[int] = set()


class Worker(asyncio.Protocol):
    """Runs one task at a time; calls `on_done` with a task's id, and `on_lost` once when the process is gone."""

    def __init__(self, *, log: Path, on_done: Callable[[Worker, str], None], on_lost: Callable[[Worker], None]) -> None:
        self._on_done = on_done
        self._on_lost = on_lost
        self._buffer = b""
        self._transport: asyncio.BaseTransport | None = None
        self.task = ""
        """What it is at; empty while it waits."""
        self.pid, self._orders, self._reports = _spawn(log)
        self.process = Process.of(self.pid) or Process(pid=self.pid, started="ended at once")

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(lambda: self, os.fdopen(self._reports, "rb", buffering=0))

    def order(self, task: str, path: Path) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # it died just now, and will be seen to have
            os.write(self._orders, f"{path}\n".encode())

    def dismiss(self) -> None:
        """Let it end: at once, or when its task is done."""
        if self._orders >= 0:
            os.close(self._orders)
            self._orders = -1

    def abandon(self) -> None:
        """As `dismiss`, and nobody listens any more."""
        self.dismiss()
        if self._transport is not None:
            self._transport.close()

    def kill(self) -> None:
        kill(self.process)

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self.task = ""
            self._on_done(self, line.decode())

    def connection_lost(self, exc: Exception | None) -> None:
        self.dismiss()
        reap()
        self._on_lost(self)


async def gone(pids: Iterable[int]) -> None:
    """Wait until these have ended and were waited for."""
    while reap() & set(pids):
        await asyncio.sleep(0.01)


def kill(leader: Process) -> None:
    """End a process of the pool with all that came of it, as when a node is lost."""
    if leader.alive:
        for pid in (leader.pid, *_descendants(leader.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    reap()


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += [int(word) for word in thread.read_text().split()]
    return [*children, *(found for child in children for found in _descendants(child))]


def reap() -> set[int]:
    """Wait for those that have ended; returns those that have not."""
    for pid in list(_unreaped):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] != pid:
                continue
        _unreaped.discard(pid)
    return set(_unreaped)


def _spawn(log: Path) -> tuple[int, int, int]:
    """Process id, where to write orders, where to read reports. It is its own session, and outlives the facility."""
    reap()
    orders_read, orders_write = os.pipe()
    reports_read, reports_write = os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, orders_read, 0),
        (os.POSIX_SPAWN_DUP2, reports_write, 1),
        (os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    ]
    command = [sys.executable, "-m", "orchestration.sandbox.compute.worker"]
    pid = os.posix_spawn(sys.executable, command, _environment(), file_actions=actions, setsid=True)
    _unreaped.add(pid)
    os.close(orders_read)
    os.close(reports_write)
    return pid, orders_write, reports_read


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {"PATH": os.defpath, "HOME": "/", **kept, "PYTHONPATH": str(Path(orchestration.__file__).parent.parent)}
