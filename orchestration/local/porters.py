"""Processes that carry small files for this one, as many at once as there are processors."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orchestration
from orchestration.errors import OrchestrationError, TransferFailed
from orchestration.local.small import Order

MOST = 4
"""Of them, for one tree."""

_LOOK_MILLISECONDS = 100
"""Between two looks whether the work is wanted any more."""


class Porter:
    """One such process (`porter`).

    Raises:
        TransferFailed: if it cannot be started.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-S", "-s", "-P", "-m", "orchestration.local.porter"]
        environment = os.environ | {"PYTHONPATH": str(Path(orchestration.__file__).parent.parent)}
        try:
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise _failed(f"a process that copies small files cannot be started: {error}") from error
        self._orders, self._answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
        self._news = select.poll()
        self._news.register(self._answers, select.POLLIN)

    def perform(self, order: Order, check: Callable[[], None]) -> Sequence[str]:
        """What the order gives. `check` is called now and then, and may raise: that is the end of this process, too."""
        try:
            pickle.dump(order, self._orders)
            self._orders.flush()
            while not self._news.poll(_LOOK_MILLISECONDS):
                check()
            answer: Sequence[str] | OrchestrationError = pickle.load(self._answers)  # noqa: S301 - our own process
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise _failed(f"a process that copied small files ended by itself, with {self._process.wait()}") from error
        except OrchestrationError:
            self._process.kill()  # nobody reads what it answers, and the next is not to take it for its own
            raise
        if isinstance(answer, OrchestrationError):
            raise answer
        return answer

    def end(self) -> None:
        """Whatever it does."""
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):  # an order that it did not take
            self._orders.close()


class Porters:
    """Some of them, started when there is work for them, for any number of threads. With none, threads do it alone."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._free: queue.SimpleQueue[Porter | None] = queue.SimpleQueue()
        for _ in range(number):
            self._free.put(None)
        self._started: list[Porter] = []

    @classmethod
    def of_this_machine(cls) -> Self:
        return cls(min(MOST, len(os.sched_getaffinity(0))))

    def perform(self, order: Order, check: Callable[[], None]) -> Sequence[str]:
        """What the order gives, once one of them is free; `check` may raise to end it."""
        if not self._number:
            return order.perform(check)
        with self._one() as porter:
            check()
            return porter.perform(order, check)

    @contextmanager
    def _one(self) -> Iterator[Porter]:
        porter = self._free.get()
        try:
            if porter is None:
                porter = Porter()
                self._started.append(porter)
            yield porter
        finally:
            self._free.put(porter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for porter in self._started:
            porter.end()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("a process was started without its pipes")
    return stream


def _failed(what: str) -> TransferFailed:
    return TransferFailed(
        what, where="this machine", next_step="look whether its memory is short, then start the flow again"
    )
