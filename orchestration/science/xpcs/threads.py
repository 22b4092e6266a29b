"""Compiled code on all processors: it lets go of the interpreter's lock, so that threads of Python will do.

numba's own parallel loops take several times as long to compile, and one of their ways to run does not bear being used
from two threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from orchestration.science.stopping import look

_SHARES = 4
"""Pieces for each processor, so that none waits long for another that had more to do."""


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def in_threads(count: int, work: Callable[[int, int], None], *, shares: int = _SHARES) -> None:
    """Do the work from 0 to `count` in pieces, each from its first to before its last; so many for each processor.

    Once one has failed, or the program was told to stop, no other is begun.
    """
    look()
    threads = processors()
    pieces = min(count, shares * threads) if threads > 1 else min(count, 1)
    edges = [count * piece // max(1, pieces) for piece in range(pieces + 1)]
    with ThreadPoolExecutor(threads, thread_name_prefix="xpcs") as pool:
        parts = [pool.submit(_piece, work, low, high) for low, high in pairwise(edges)]
        try:
            for piece in parts:
                piece.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _piece(work: Callable[[int, int], None], low: int, high: int) -> None:
    look()
    work(low, high)
