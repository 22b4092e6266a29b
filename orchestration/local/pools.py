"""Very many files in a few threads: those that are small some at a time, each other by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

SMALL = 256 * 1024
"""Bytes of a file that is read at once, and made durable together with others."""

THREADS = 4
"""Batches of files in flight: enough to hide the latency of making each durable."""

BATCH_FILES = 1000
BATCH_BYTES = 64 * 1024 * 1024


class Sized(Protocol):
    @property
    def size(self) -> int:
        """Bytes."""


S = TypeVar("S", bound=Sized)
T = TypeVar("T")


def each_batch(do: Callable[[Sequence[S]], T], files: Sequence[S]) -> Iterator[T]:
    """What `do` returns for the files, some at a time, in order; the first exception ends it."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield from pool.map(do, _batches(files))
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(files: Sequence[S]) -> Iterator[Sequence[S]]:
    batch: list[S] = []
    size = 0
    for file in files:
        full = len(batch) >= BATCH_FILES or size + file.size > BATCH_BYTES
        if batch and (full or file.size > SMALL or batch[0].size > SMALL):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch
