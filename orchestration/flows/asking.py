"""Asking several at once, for no longer than one has time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


def answers(questions: Mapping[str, Callable[[], T]], *, seconds: float) -> Mapping[str, T | Exception]:
    """What each said, or raised; who has not answered in time is left out, and answers to nobody."""
    found: queue.SimpleQueue[tuple[str, T | Exception]] = queue.SimpleQueue()

    def ask(name: str, question: Callable[[], T]) -> None:
        try:
            found.put((name, question()))
        except Exception as error:  # handed over to the thread that waits
            found.put((name, error))

    for name, question in questions.items():
        threading.Thread(target=copy_context().run, args=(ask, name, question), daemon=True).start()
    until = time.monotonic() + seconds
    heard: dict[str, T | Exception] = {}
    while len(heard) < len(questions) and (left := until - time.monotonic()) > 0:
        try:
            name, answer = found.get(timeout=left)
        except queue.Empty:
            break
        heard[name] = answer
    return heard
