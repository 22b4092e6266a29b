"""Loops over arrays as machine code, which is compiled once for all runs, and then needs nothing of its compiler.

numba compiles. What it takes to start it takes longer than to correlate a thousand frames, so only who has to compile
imports it; see `machinecode` for how compiled code is called, and `codestore` for where it is kept.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

from orchestration.science.stopping import look
from orchestration.science.xpcs import codestore
from orchestration.science.xpcs.fingerprint import fingerprint
from orchestration.science.xpcs.machinecode import Kinds, Native, kinds_of

_MAKING = threading.RLock()


class Loop:
    """A function of numbers, arrays and tuples of them, which computes in compiled code: other threads go on meanwhile.

    It makes no array and raises nothing; it returns nothing, a number, or a tuple of numbers. It may call other loops.
    With the environment variable ``NUMBA_DISABLE_JIT`` it is the function that it was written as, for a debugger.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.options = options
        """Of numba."""
        self._made: dict[Kinds, Native] = {}

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def __call__(self, *arguments: Any) -> Any:
        if _interpreted():
            return self.function(*arguments)
        kinds = kinds_of(arguments)
        native = self._made.get(kinds) or self._make(kinds, arguments)
        return native(arguments)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of all that it is compiled from."""
        return fingerprint(self.function, self.options)

    def _make(self, kinds: Kinds, arguments: tuple[Any, ...]) -> Native:
        with _MAKING:
            if kinds not in self._made:
                place = codestore.Place.of(self.function, kinds)
                code = place.load(self.fingerprint)
                if code is None:
                    look()
                    from orchestration.science.xpcs.compiler import compile_loop

                    code = compile_loop(self, arguments)
                    place.save(self.fingerprint, code)
                self._made[kinds] = Native(self.name, code)
            return self._made[kinds]


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Loop]:
    """The decorator of all loops; it takes numba's options."""
    return lambda function: Loop(function, options)


@functools.cache
def _interpreted() -> bool:
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in {"", "0"}
