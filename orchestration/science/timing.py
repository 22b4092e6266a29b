"""Where the time of a run goes."""

from __future__ import annotations

import resource
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def peak_memory() -> int:
    """Bytes of the largest resident memory of this program.

    The system's resource usage would do, but it starts from that of the process which started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stopwatch:
    """Adds up seconds by stage; stages of several threads add up too, and may exceed the time on the wall."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            with self._lock:
                self._seconds[name] += elapsed

    @property
    def seconds(self) -> dict[str, float]:
        with self._lock:
            return {name: round(value, 4) for name, value in self._seconds.items()}
