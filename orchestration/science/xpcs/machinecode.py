"""Machine code of loops: how it gets into memory, and how it is called.

Code that numba made of a function is called here as numba calls it from other such code (see `Native`). It asks for
nothing outside of itself but mathematics of the C library, so that LLVM's linker alone can load it.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Kinds = tuple["str | Kinds", ...]

ARGUMENTS: dict[str, Any] = {
    "ptr": ctypes.c_void_p,
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}
"""By their names in LLVM, which does not tell a number with a sign from one without: the bits are the same."""

RESULTS: dict[str, Any] = {
    "bool": ctypes.c_bool,
    "int32": ctypes.c_int32,
    "int64": ctypes.c_int64,
    "uint8": ctypes.c_uint8,
    "uint16": ctypes.c_uint16,
    "uint32": ctypes.c_uint32,
    "uint64": ctypes.c_uint64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
}
"""By their names in numba."""

FREED = "NRT_MemInfo_call_dtor"
"""numba's: what frees an array that code has counted to be out of use. Ours come without a counter, and code that finds
none does not count. So it is never called; if it were, that would be the end of the process, not a wrong number.
"""

_NUMBERS = {kind: np.dtype(kind).str for kind in (bool, int, float)}


class LoopFailed(Exception):
    """Raised when compiled code ends early, which none is written to do."""


@dataclass(frozen=True)
class Code:
    """A loop for some kinds of arguments."""

    symbol: str
    arguments: tuple[str, ...]
    """The type of each of the `flattened` arguments: see `ARGUMENTS`."""
    result: tuple[str, ...]
    """The type of each number that it returns: see `RESULTS`."""
    outside: tuple[str, ...]
    """Functions that it calls and does not have."""
    machine_code: bytes
    """An object file of the system that it was compiled on."""


class Native:
    """Machine code in memory, called as numba has it (numba/core/callconv.py, `CPUCallConv`).

    The first argument is where the result goes, the second where an error would; then come the arguments, an array as
    seven or more (see `flattened`). Returned is 0, or what went wrong. The interpreter is let go of meanwhile.
    """

    def __init__(self, name: str, code: Code) -> None:
        self._name = name
        fields = [(f"f{number}", RESULTS[one]) for number, one in enumerate(code.result)]
        self._results = len(fields)
        self._result = type("Result", (ctypes.Structure,), {"_fields_": fields or [("none", ctypes.c_void_p)]})
        types = [ARGUMENTS[one] for one in code.arguments]
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *types)
        self._engine, address = _loaded(code)
        self._call = prototype(address)

    def __call__(self, arguments: tuple[Any, ...]) -> Any:
        """The arguments are of the kinds that it was compiled for.

        Raises:
            LoopFailed: if the code says so.
        """
        result, error = self._result(), ctypes.c_void_p()
        status = self._call(ctypes.byref(result), ctypes.byref(error), *flattened(arguments))
        if status != 0:
            raise LoopFailed(
                f"{self._name} ended early, with {status}: most likely it divided by 0. Next: set NUMBA_DISABLE_JIT=1, "
                "and run it again: it will say where."
            )
        found = tuple(getattr(result, f"f{number}") for number in range(self._results))
        return found if self._results > 1 else found[0] if found else None


def _loaded(code: Code) -> tuple[Any, int]:
    """What has the code in memory, and for how long; and where it begins.

    Each code has memory of its own: two processes may have made different code of one name.
    """
    llvm = _llvm()
    for name in code.outside:
        if not llvm.address_of_symbol(name):  # LLVM ends the process over it
            raise LoopFailed(f"{code.symbol} needs {name}, which this system has not. Next: install numba anew.")
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    module = llvm.parse_assembly(f"declare void @{FREED}(i64)")
    engine = llvm.create_mcjit_compiler(module, machine)
    # For this code alone: numba may be at work in this process, too.
    engine.add_global_mapping(module.get_function(FREED), ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.machine_code))
    address: int = engine.get_function_address(code.symbol)
    if not address:
        raise LoopFailed(f"{code.symbol} is not in its own machine code. Next: delete it where it is kept.")
    return engine, address


@functools.cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def processor() -> str:
    """What code that was compiled here runs on."""
    llvm = _llvm()
    return f"{llvm.get_default_triple()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


def kinds_of(values: Iterable[Any]) -> Kinds:
    """What code depends on: types of numbers, and of arrays their dimensions and layout, too.

    Raises:
        TypeError: for what is neither a number, nor an array, nor a tuple of these.
    """
    return tuple([_kind_of(value) for value in values])


def _kind_of(value: Any) -> str | Kinds:
    kind = type(value)
    if kind is np.ndarray or kind is np.memmap:
        flags = value.flags
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return f"{value.dtype.str}{value.ndim}{layout}{flags.writeable:d}{flags.aligned:d}"
    if kind is tuple:
        return kinds_of(value)
    if kind in _NUMBERS:
        if kind is int and not -(2**63) <= value < 2**63:
            raise TypeError(f"{value} has more than 64 bits")
        return _NUMBERS[kind]
    if isinstance(value, np.number | np.bool_):
        return value.dtype.str
    raise TypeError(f"a compiled loop cannot be given {kind.__name__}")


def flattened(values: Iterable[Any]) -> Iterator[int | float]:
    """Arguments as numba's code takes them.

    An array is a pointer to its counter and one to its owner (ours have none), how many elements it has, of how many
    bytes each, a pointer to the first, its shape and its strides.
    """
    for value in values:
        if isinstance(value, np.ndarray):
            yield from (0, 0, value.size, value.itemsize, value.__array_interface__["data"][0])
            yield from value.shape
            yield from value.strides
        elif isinstance(value, tuple):
            yield from flattened(value)
        else:
            yield value.item() if isinstance(value, np.generic) else value
