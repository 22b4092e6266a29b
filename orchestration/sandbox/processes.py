"""Long-lived processes of this machine: started apart from their parent, known again, ended with their children."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "BEAMLINE_SANDBOX_PROCESS"
"""Variable of every process of a sandbox, inherited by all that it starts: the way to find what escaped its group."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process, not to be confused with a later one that was given the same number."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        started = start_time(pid)
        return None if started is None else cls(pid=pid, started=started)

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


def start(argv: Sequence[str], *, environment: Mapping[str, str], directory: Path, log: Path) -> Process:
    """Start a process that leads a session of its own and outlives this one; what it prints is appended to `log`."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            argv,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_heed_interrupts,
        )
    _reap_later(child)
    return Process.of(child.pid) or Process(pid=child.pid, started="ended at once")


def stop(processes: Sequence[Process], *, patience: float) -> None:
    """End the groups of these processes: asked first, killed when patience ends. Returns when they are gone."""
    groups = [process.pid for process in processes if process.alive]
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        if _gone(groups, seconds):
            return


def kill_marked(value: str) -> int:
    """Kill every process whose environment carries this mark; how many there were (Linux; elsewhere none is found)."""
    found = [pid for pid in _pids() if pid != os.getpid() and _marked(pid, value)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 5.0
    while any(start_time(pid) for pid in found) and time.monotonic() < until:
        threading.Event().wait(0.02)
    return len(found)


def start_time(pid: int) -> str | None:
    """When the process was started, in the words of its system; None if there is none, or only its remains."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in {"Z", "X"} else fields[19]
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _gone(groups: Sequence[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        if not any(_has_members(group) for group in groups):
            return True
        if time.monotonic() > until:
            return False
        threading.Event().wait(0.02)


def _has_members(group: int) -> bool:
    """Whether anything that is not a mere remain is left of a process group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not Path("/proc/self/stat").exists():
        return True
    return any(_group(pid) == group for pid in _pids())


def _group(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[2])


def _pids() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()] if proc.is_dir() else []


def _marked(pid: int, value: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK}={value}".encode() in environment.split(b"\0")


def _heed_interrupts() -> None:
    """Prefect's worker is told to stop by SIGINT, which what is started in a shell's background inherits as ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _reap_later(child: subprocess.Popen[bytes]) -> None:
    """Collect its exit status whenever it ends, so that it is not left as a zombie while this process lives."""
    threading.Thread(target=child.wait, name=f"reap {child.pid}", daemon=True).start()
