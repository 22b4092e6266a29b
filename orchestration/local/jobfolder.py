"""The folder of one job: files that are whole or absent, and a lock that tells whether anybody is looking after it.

Standard library only: the supervisor of every job imports this, and must be up in some tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPEC = "spec.json"
STARTED = "started.json"
"""Written before the command is run: from then on nobody may run it again."""
CHILD = "child.json"
EXIT = "exit.json"
CANCEL = "cancel"
STDOUT = "stdout.txt"
STDERR = "stderr.txt"
LOG = "supervisor.log"
"""What went wrong with the supervisor itself; mostly empty."""
PROGRESS = "progress.jsonl"
ERROR = "error.json"
_LOCK = "lock"


@dataclass(frozen=True)
class JobFolder:
    path: Path

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read(self, name: str) -> dict[str, Any] | None:
        """The JSON object in a file written by `write`; None if there is none yet."""
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if not isinstance(found, dict):
            raise TypeError(f"{self.path / name} holds no JSON object")
        return found

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Atomically and durably."""
        temporary = self.path / f".{name}.{os.getpid()}"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / name)
        fsync_directory(self.path)

    @contextlib.contextmanager
    def held(self, *, patience: float = 0.0) -> Iterator[bool]:
        """Try to be the only one who looks after the job; yields whether that worked within `patience` seconds."""
        descriptor = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            yield lock(descriptor, patience=patience)
        finally:
            os.close(descriptor)

    def attended(self) -> bool:
        """Whether a live supervisor looks after it now."""
        with self.held() as free:
            return not free


def lock(descriptor: int, *, patience: float = 0.0) -> bool:
    """Take an exclusive lock, waiting at most `patience` seconds; it goes with the descriptor, however that ends."""
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
        else:
            return True


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
