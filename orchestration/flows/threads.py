"""The threads of a watcher, and what becomes of an error in one of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.flows.polling import Subject

logger = logging.getLogger(__name__)

THREADS = 4
"""Of each kind."""


class Pools:
    """Threads that ask, and threads that act: a thousand runs to resume must not keep a service from being asked."""

    def __init__(self) -> None:
        self.asking = ThreadPoolExecutor(THREADS, thread_name_prefix="ask")
        self.acting = ThreadPoolExecutor(THREADS, thread_name_prefix="act")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in (self.asking, self.acting):
            pool.shutdown(cancel_futures=True)


def guarded(name: str, work: Callable[[], bool | None], subject: Subject) -> None:
    """Do it; what is False was not done, and says nothing about its subject."""
    try:
        if work() is not False:
            subject.answered()
    except ServiceUnavailable as doubt:
        logger.warning("%s: %s", name, doubt)
        subject.silent(doubt)
    except OrchestrationError as error:
        logger.error("%s: %s", name, error)
        subject.failed()
    except Exception:
        # One service, or its adapter, must not keep the runs that wait for others from going on.
        logger.exception("%s: an error nobody planned for; it is tried again later", name)
        subject.failed()
