"""numba, which makes machine code of loops. To import it takes long: see `compiling`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numba
from numba.extending import typeof_impl

from orchestration.science.xpcs.compiling import Loop
from orchestration.science.xpcs.machinecode import FREED, RESULTS, Code

types: Any = numba.types

_ADDED = 2
"""Arguments that numba puts before those of a loop: where the result goes, and an error."""
_INTERPRETER = ("Py", "_Py", "numba_", "NRT_MemInfo_alloc", "NRT_Allocate", "NRT_Reallocate", "NRT_adapt")
"""What only a process in which numba runs has. Names begin so."""


class LoopUnfit(Exception):
    """Raised when a loop is written so that its code could not run by itself."""


def compile_loop(loop: Loop, arguments: tuple[Any, ...]) -> Code:
    """The code of a loop for the kinds of these arguments.

    Raises:
        LoopUnfit: if it could not run without numba.
        numba.core.errors.NumbaError: if it cannot be compiled.
    """
    dispatcher = _dispatcher(loop, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    signature = tuple(numba.typeof(argument) for argument in arguments)  # type: ignore[no-untyped-call]
    # What `Dispatcher.compile` does, without its cache and the way in from Python.
    made = dispatcher._compiler.compile(signature, None)  # noqa: SLF001
    symbol = made.fndesc.llvm_func_name
    return Code(
        symbol=symbol,
        arguments=_arguments(loop, signature, made.library.get_function(symbol)),
        result=_result(loop, made.signature.return_type),
        outside=_outside(loop, made.library._final_module),  # noqa: SLF001
        machine_code=made.library._get_compiled_object(),  # noqa: SLF001
    )


def _dispatcher(loop: Loop, **options: Any) -> Any:
    return numba.njit(nogil=True, **loop.options, **options)(loop.function)


@typeof_impl.register(Loop)
def _typeof_loop(loop: Loop, _context: object) -> Any:
    """So loops can call loops: numba compiles those in the same go."""
    if loop not in _INNER:
        _INNER[loop] = _dispatcher(loop)
    return types.Dispatcher(_INNER[loop])


_INNER: dict[Loop, Any] = {}


def _arguments(loop: Loop, signature: Iterable[Any], function: Any) -> tuple[str, ...]:
    """The types of arguments, found where LLVM has them, and compared with what `machinecode.flattened` gives."""
    found = [_plain(str(argument.type)) for argument in function.arguments][_ADDED:]
    wanted = list(_expected(signature))
    if found != wanted:
        what = f"numba {numba.__version__} gives {loop.name} its arguments as {found}, and not as {wanted}"
        raise LoopUnfit(f"{what}. Next: install a version that is allowed, and report this one.")
    return tuple(found)


def _plain(name: str) -> str:
    # LLVM says what a pointer points to, up to its version 15.
    return "ptr" if name.endswith("*") else name


def _expected(signature: Iterable[Any]) -> Iterator[str]:
    for one in signature:
        if isinstance(one, types.Array):
            yield from ("ptr", "ptr", "i64", "i64", "ptr", *["i64"] * (2 * one.ndim))
        elif isinstance(one, types.BaseTuple):
            yield from _expected(one)
        elif isinstance(one, types.Boolean):
            yield "i8"
        elif isinstance(one, types.Integer):
            yield f"i{one.bitwidth}"
        else:
            yield {"float32": "float", "float64": "double"}.get(str(one), str(one))


def _result(loop: Loop, returned: Any) -> tuple[str, ...]:
    if isinstance(returned, types.NoneType):
        return ()
    names = [str(one) for one in (returned.types if isinstance(returned, types.BaseTuple) else (returned,))]
    if unfit := [name for name in names if name not in RESULTS]:
        raise LoopUnfit(f"{loop.name} returns {unfit[0]}. Next: let it write into what it is given.")
    return tuple(names)


def _outside(loop: Loop, module: Any) -> tuple[str, ...]:
    declared = (one.name for one in module.functions if one.is_declaration)
    names = [name for name in declared if name != FREED and not name.startswith("llvm.")]
    if unfit := [name for name in names if name.startswith(_INTERPRETER)]:
        what = f"{loop.name} makes an array, or an object of Python: it calls {unfit[0]}"
        raise LoopUnfit(f"{what}. Next: give it the array that it writes into.")
    return tuple(names)
