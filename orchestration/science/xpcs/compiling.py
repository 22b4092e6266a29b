"""How loops over arrays are compiled: once for all runs, and so that others of this process can go on meanwhile.

numba looks for the linear algebra of scipy when it starts, which takes as long as to correlate some hundred frames. No
loop here has a use for that, so it is told that there is none.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import NoReturn

import numba
from numba.np import linalg


def _missing() -> NoReturn:
    raise ImportError("no compiled loop uses linear algebra")


if "scipy.linalg" not in sys.modules:
    _asked, linalg.ensure_blas = linalg.ensure_blas, _missing
    try:
        from numba.np import arraymath as _asks_once  # noqa: F401
    finally:
        linalg.ensure_blas = _asked

compiled = partial(numba.njit, cache=True, nogil=True)
"""The decorator of all of them; it takes numba's options."""
