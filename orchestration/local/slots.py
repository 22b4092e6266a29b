"""A fixed number of places for jobs on this machine, taken by whoever comes first. Standard library only."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestration.local.jobfolder import lock


@contextlib.contextmanager
def places(folder: Path, *, total: int, wanted: int, stop: Callable[[], bool]) -> Iterator[list[int]]:
    """Hold `wanted` of `total` places; yields which these are, or none if `stop` said so while waiting.

    A place is the lock of an open file, so that a killed job frees it. Whoever waits holds the turn meanwhile:
    a job that wants many places is not passed by small ones for ever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = list(range(total))
    taken: list[int] = []
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as turn:
            if not _until(lambda: _take(folder / "turn", turn), stop):
                yield []
                return
            while len(taken) < min(wanted, total):
                if not _until(lambda: _take_any(folder, free, taken, held), stop):
                    yield []
                    return
        yield taken


def _until(succeeded: Callable[[], bool], stop: Callable[[], bool]) -> bool:
    while not succeeded():
        if stop():
            return False
        time.sleep(0.05)
    return True


def _take_any(folder: Path, free: list[int], taken: list[int], held: contextlib.ExitStack) -> bool:
    for number in free:
        if _take(folder / str(number), held):
            free.remove(number)
            taken.append(number)
            return True
    return False


def _take(place: Path, held: contextlib.ExitStack) -> bool:
    descriptor = os.open(place, os.O_CREAT | os.O_RDWR, 0o600)
    if not lock(descriptor):
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    return True
