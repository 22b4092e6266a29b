"""A running job, seen from the facility: its folder, and the process that looks after it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestration.sandbox.processes import MARK
from orchestration.sandbox.superfacility.local import supervise


def launch(folder: Path) -> subprocess.Popen[bytes]:
    """Start a supervisor for the job in this folder, in a session of its own."""
    marked = {MARK: os.environ[MARK]} if MARK in os.environ else {}
    with (folder / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", supervise.__file__, str(folder)],
            env=marked,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@dataclass(frozen=True)
class Running:
    folder: Path

    def stop(self, state: str, *, by: int | None = None) -> None:
        """Make it end in this state; the first to say so is right."""
        if supervise.read(str(self.folder), supervise.END) is None:
            supervise.write(str(self.folder), supervise.END, {"state": state, "by": by})
        self._signal(signal.SIGUSR1)

    def kill(self, supervisor: int | None) -> None:
        """At once, with whoever looks after it, also one that has hardly begun (by the process given)."""
        if supervisor is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(supervisor, signal.SIGKILL)
        self._signal(signal.SIGKILL)
        supervise.kill_marked(str(self.folder))

    def _signal(self, number: signal.Signals) -> None:
        """To the supervisor that runs it, if there is one yet; it looks for what it was told before."""
        started = supervise.read(str(self.folder), supervise.STARTED)
        if started is None:
            return
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{started['pid']}/cmdline").read_bytes().split(b"\0")
            if str(self.folder).encode() in words:  # and no stranger that has got its number
                os.kill(int(started["pid"]), number)
