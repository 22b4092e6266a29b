"""What one process remembers about jobs, to be patient for a bounded time; nothing is wrong if it is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Memory:
    """Since when something has been so, by what it is and whose; seconds of a clock that does not jump."""

    clock: Callable[[], float] = time.monotonic
    _began: dict[tuple[str, str], float] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def waited(self, what: str, whose: str) -> float:
        """How long; the first time that this is asked it begins."""
        with self._lock:
            began = self._began.setdefault((what, whose), self.clock())
            return self.clock() - began

    def begin(self, what: str, whose: str) -> None:
        """It begins now, whatever was before."""
        with self._lock:
            self._began[what, whose] = self.clock()

    def began(self, what: str, whose: str) -> bool:
        with self._lock:
            return (what, whose) in self._began

    def asked(self, whose: str) -> float:
        """When it was last asked about, by the same clock; before everything if it never was."""
        with self._lock:
            return self._began.get(("asked", whose), float("-inf"))

    def over(self, what: str, whose: str) -> bool:
        """Whether it had begun; it is over now."""
        with self._lock:
            return self._began.pop((what, whose), None) is not None

    def settled(self, *whose: str) -> None:
        with self._lock:
            for key in [key for key in self._began if key[1] in whose]:
                del self._began[key]
