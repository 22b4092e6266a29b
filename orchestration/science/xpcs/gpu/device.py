"""One CUDA device, with the kernels of this package."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import DeviceFailed, DeviceMissing
from orchestration.science.stopping import pause
from orchestration.science.xpcs.frames import Array

ANY = -2
"""Stands for whichever device is free, as with boost_corr."""

LOCKS = Path("/dev/shm/gpu_locks")  # noqa: S108 - where boost_corr has its own: on one machine the two keep apart
_LOOK_AGAIN = 1.0
"""Seconds."""

_THREADS = 128

_NAMES = {
    "bool": "bool",
    "uint8": "unsigned char",
    "int8": "signed char",
    "uint16": "unsigned short",
    "int16": "short",
    "uint32": "unsigned int",
    "int32": "int",
    "uint64": "unsigned long long",
    "int64": "long long",
    "float32": "float",
    "float64": "double",
}
"""What CUDA calls the types of frames."""


@cache
def source() -> str:
    """The kernels."""
    return files(__package__).joinpath("kernels.cu").read_text(encoding="utf-8")


def name_of(kind: np.dtype[Any]) -> str:
    return _NAMES[kind.name]


@dataclass(frozen=True)
class Gpu:
    """A device that is the current one of this thread."""

    cupy: Any
    number: int
    _modules: dict[str, Any] = field(default_factory=dict)

    def run(
        self, kernel: str, threads: int, *arguments: Array, rows: int = 1, frames: np.dtype[Any] | None = None
    ) -> None:
        """Start a kernel in at least so many threads, in `rows` rows of blocks; `frames` is the type of its frames.

        Numbers among the arguments are numpy's, of the types that the kernel declares.
        """
        self._function(kernel, frames)((-(-threads // _THREADS), rows), (_THREADS,), arguments)

    def run_blocks(self, kernel: str, blocks: int, *arguments: Array) -> None:
        """Start a kernel in so many blocks of threads."""
        self._function(kernel, None)((blocks,), (_THREADS,), arguments)

    def to_device(self, values: NDArray[Any]) -> Array:
        """A copy that is complete: the memory that it comes from may be used again at once."""
        copy = self.cupy.asarray(values)
        self.cupy.cuda.get_current_stream().synchronize()
        return copy

    def to_host(self, values: Array) -> NDArray[Any]:
        host: NDArray[Any] = self.cupy.asnumpy(values)
        return host

    def empty_pinned(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        """Memory of this machine that the device reads at full speed."""
        found: NDArray[Any] = importlib.import_module("cupyx").empty_pinned(shape, dtype=kind)
        return found

    @property
    def free(self) -> int:
        """Bytes."""
        pool = self.cupy.get_default_memory_pool()
        return int(self.cupy.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())

    def _function(self, kernel: str, frames: np.dtype[Any] | None) -> Any:
        count = name_of(frames or np.dtype(np.uint16))
        if count not in self._modules:
            options = ("-std=c++17", f"-DCOUNT={count}")
            self._modules[count] = self.cupy.RawModule(code=source(), options=options)
        return self._modules[count].get_function(kernel)


@contextlib.contextmanager
def opened(number: int) -> Iterator[Gpu]:
    """A device, or any that is free for `ANY`, which is waited for.

    Raises:
        DeviceMissing: if it is not there.
        DeviceFailed: if it fails meanwhile.
    """
    cupy = _cupy()
    count = int(cupy.cuda.runtime.getDeviceCount())
    if number >= count:
        raise _missing(f"there is no GPU {number}: CUDA sees {count}")
    failures = (
        cupy.cuda.memory.OutOfMemoryError,
        cupy.cuda.runtime.CUDARuntimeError,
        cupy.cuda.driver.CUDADriverError,
        cupy.cuda.compiler.CompileException,
    )
    with contextlib.nullcontext(number) if number >= 0 else _free(count) as chosen:
        try:
            with cupy.cuda.Device(chosen):
                yield Gpu(cupy, chosen)
        except failures as error:
            raise DeviceFailed(f"the GPU failed: {error}", where=f"GPU {chosen}") from error


def _cupy() -> Any:
    try:
        cupy = importlib.import_module("cupy")
        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # the CUDA libraries raise kinds of their own when a driver is absent or too old
        raise _missing(f"no GPU can be used: {error}") from error
    if count == 0:
        raise _missing("no GPU can be used: CUDA sees no device")
    return cupy


def _missing(what: str) -> DeviceMissing:
    next_step = "install the `gpu` extra on a machine with a CUDA device, or leave --gpu-id at -1"
    return DeviceMissing(what, where="--gpu-id", next_step=next_step)


@contextlib.contextmanager
def _free(count: int) -> Iterator[int]:
    """The number of a device that nobody else has who asks for a free one."""
    LOCKS.mkdir(mode=0o1777, exist_ok=True)
    with contextlib.ExitStack() as held:
        locks = [os.open(LOCKS / f"gpu_{number}.lock", os.O_RDWR | os.O_CREAT, 0o666) for number in range(count)]
        for each in locks:
            held.callback(os.close, each)  # which lets go of it, too
        while True:
            for number, each in enumerate(locks):
                if _locked(each):
                    yield number
                    return
            pause(_LOOK_AGAIN)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
