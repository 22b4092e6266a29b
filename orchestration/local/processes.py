"""Which processes are those of a job, and how to end all of them. Linux; standard library only."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from orchestration.science.running.processes import kill_group


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, not to be confused with a later one of the same number or of another boot of the machine."""

    pid: int
    started: int
    """Clock ticks since boot."""
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        fields = _stat(pid)
        return None if fields is None else cls(pid=pid, started=int(fields[19]), boot=_boot())

    @property
    def same_boot(self) -> bool:
        return self.boot == _boot()

    @property
    def recycled(self) -> bool:
        """Whether the number now belongs to another process."""
        now = ProcessIdentity.of(self.pid)
        return now is not None and now != self


def kill_orphans(leader: ProcessIdentity) -> None:
    """End what is left of a job whose supervisor was killed."""
    if not leader.same_boot or leader.recycled:
        return
    if any(_in_session(pid, leader.pid) for pid in _pids()):
        kill_group(leader.pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _in_session(pid: int, leader: int) -> bool:
    fields = _stat(pid)
    return fields is not None and int(fields[2]) == leader and int(fields[3]) == leader


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/pid/stat from the state on (the third in proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
