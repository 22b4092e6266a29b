"""Telling how far a run is: a bar on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from rich.progress import Progress

Style = Literal["auto", "bar", "plain", "json", "none"]


class Reporter:
    """Use as a context; `advance` may be called from one thread at a time."""

    def __init__(self, *, total: int, style: Style, unit: str = "slices") -> None:
        self._total = total
        self._unit = unit
        self._done = 0
        self._start = time.monotonic()
        self._shown = -1
        terminal = sys.stderr.isatty()
        self._style = ("bar" if terminal else "plain") if style == "auto" else style
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._style == "bar":
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self._unit, total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif self._style == "plain":
            tenth = 10 * self._done // self._total
            if tenth > self._shown:
                self._shown = tenth
                self._line(f"{self._done}/{self._total} {self._unit}, {self._elapsed:.1f} s\n", sys.stderr)
        elif self._style == "json":
            fields = {
                "done": self._done,
                "total": self._total,
                "unit": self._unit,
                "elapsed_s": round(self._elapsed, 3),
            }
            self._line(json.dumps(fields) + "\n", sys.stdout)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    @staticmethod
    def _line(text: str, stream: object) -> None:
        print(text, end="", file=stream, flush=True)  # type: ignore[call-overload]


def _bar() -> Progress:
    from rich.console import Console  # only where there is a terminal: it takes as long as a small correlation
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
