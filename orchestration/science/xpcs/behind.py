"""One thing after another in a thread of its own, while its caller goes on: to read and to write take their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from orchestration.science.stopping import look

T = TypeVar("T")


class Behind:
    """Has at most one thing to do: whoever brings the next waits for the last."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._last: Future[None] | None = None

    def __call__(self, work: Callable[[], None]) -> None:
        """Raises what the last thing that was given has raised."""
        look()
        self.wait()
        self._last = self._pool.submit(work)

    def wait(self) -> None:
        """Raises what the last thing that was given has raised."""
        if self._last is not None:
            self._last.result()


@contextmanager
def behind() -> Iterator[Behind]:
    with ThreadPoolExecutor(1, thread_name_prefix="behind") as pool:
        one = Behind(pool)
        yield one
        one.wait()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, none of which is None; the next one is made while one is looked at."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            look()
            coming = pool.submit(next, items, None)
            yield item
