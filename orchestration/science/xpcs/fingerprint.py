"""Whether a loop is still what it was when it was compiled.

The time of a file says nothing of what its loops take from other files: the constants and the other loops that end up
in their code. So these are looked at themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np


def fingerprint(function: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """Of the instructions of a function, and of the constants and loops that it names.

    Raises:
        TypeError: if it is no function of a module: what it has from around it could change at any time.
    """
    if not isinstance(function, FunctionType) or function.__closure__:
        raise TypeError(
            f"{function!r} is no function of a module. Next: give it as arguments what it has from outside."
        )
    code = function.__code__
    digest = hashlib.blake2b(code.co_code, digest_size=16)
    for value in (options, code.co_varnames, code.co_names, code.co_consts, *_named(function)):
        digest.update(_text(value).encode() + b";")
    return digest.hexdigest()


def _named(function: FunctionType) -> Iterator[tuple[str, object]]:
    """What the instructions can take from the module of a function, and from modules that are named there."""
    names = function.__code__.co_names
    for name in names:
        value = function.__globals__.get(name)
        yield name, value
        if isinstance(value, ModuleType):
            yield from ((part, getattr(value, part, None)) for part in names)


def _text(value: object) -> str:
    inner = getattr(value, "fingerprint", None)  # of a loop
    if isinstance(inner, str):
        return inner
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}{hashlib.blake2b(value.tobytes()).hexdigest()}"
    if isinstance(value, CodeType):
        return _text((value.co_code.hex(), value.co_names, value.co_consts))
    if isinstance(value, tuple):
        return f"({','.join(map(_text, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{','.join(sorted(map(_text, value)))}}}"
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(map(_text, value.items())))}}}"
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return repr(value)
    # A loop cannot be compiled with any other thing that may change.
    return f"{type(value).__name__} {getattr(value, '__qualname__', '')}"
