"""Keeping a claim alive while its holder works."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from orchestration.errors import LeaseLost

logger = logging.getLogger(__name__)


class Lease:
    """Calls `renew` from a thread of its own, three times per lease, until the context ends.

    The work may block for longer than a lease (a slow HTTP call): the claim is kept all the same. A lost lease is
    remembered and raised by `check`, in the thread that does the work.
    """

    def __init__(self, renew: Callable[[], None], *, seconds: float) -> None:
        self._renew = renew
        self._interval = seconds / 3
        self._stop = threading.Event()
        self._lost: LeaseLost | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises LeaseLost if another run has taken over."""
        if self._lost is not None:
            raise self._lost

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._renew()
            except LeaseLost as error:
                self._lost = error
                return
            except Exception:
                # The database may be away for a moment; the lease outlasts two missed renewals.
                logger.exception("the lease could not be renewed; it is tried again")
