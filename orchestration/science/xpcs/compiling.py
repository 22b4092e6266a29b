"""How loops over arrays are compiled: once for all runs, and so that others of this process can go on meanwhile.

numba makes all ready that it can compile with, scipy's linear algebra among it, before it so much as looks for what it
has compiled in an earlier run. That takes longer than to correlate a thousand frames, and only who compiles needs it:
numba does the same when it comes to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys


class _Stored(FunctionCache):
    """What was compiled of a loop, in earlier runs too."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """As numba has it, but for `target_context.refresh`: compiled code asks for no more than memory."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """The decorator of all loops; it takes numba's options."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        dispatcher._cache = _Stored(function)  # type: ignore[no-untyped-call]  # noqa: SLF001 - numba's own `enable_caching` does no more
        return dispatcher

    return decorate
