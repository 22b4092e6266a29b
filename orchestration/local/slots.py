"""A fixed number of places for jobs on this machine, taken by whoever comes first. Standard library only."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestration.local.jobfolder import lock


@contextlib.contextmanager
def places(folder: Path, *, total: int, wanted: int, stop: Callable[[], bool]) -> Iterator[bool]:
    """Hold `wanted` of `total` places; yields False if `stop` said so while waiting.

    A place is the lock of an open file, so that a killed job frees it. Whoever waits holds the turn meanwhile:
    a job that wants many places is not passed by small ones for ever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [folder / str(number) for number in range(total)]
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as turn:
            if not _until(lambda: _take(folder / "turn", turn), stop):
                yield False
                return
            for _ in range(min(wanted, total)):
                if not _until(lambda: _take_any(waiting, held), stop):
                    yield False
                    return
        yield True


def _until(succeeded: Callable[[], bool], stop: Callable[[], bool]) -> bool:
    while not succeeded():
        if stop():
            return False
        time.sleep(0.05)
    return True


def _take_any(waiting: list[Path], held: contextlib.ExitStack) -> bool:
    for place in waiting:
        if _take(place, held):
            waiting.remove(place)
            return True
    return False


def _take(place: Path, held: contextlib.ExitStack) -> bool:
    descriptor = os.open(place, os.O_CREAT | os.O_RDWR, 0o600)
    if not lock(descriptor):
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    return True
