"""A device that is none: it runs the source of the kernels on a processor, with numpy in the place of cupy."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestration.science.xpcs.gpu.device import Gpu, name_of, source

HEADER = Path(__file__).with_name("cuda_on_processors.h")

_TYPES = {np.dtype(np.int32): ctypes.c_int, np.dtype(np.int64): ctypes.c_longlong}


@dataclass(frozen=True, kw_only=True)
class OnProcessors(Gpu):
    folder: Path
    """Of the kernels that the machine's own compiler has made."""

    def run(
        self, kernel: str, threads: int, *arguments: Any, rows: int = 1, frames: np.dtype[Any] | None = None
    ) -> None:
        library = compiled(self.folder, name_of(frames or np.dtype(np.uint16)))
        values = [_argument(each) for each in arguments]
        for row in range(rows):
            for block in range(threads):
                library.place(block, row)
                library[kernel](*values)

    def run_blocks(self, kernel: str, blocks: int, *arguments: Any) -> None:
        self.run(kernel, blocks, *arguments)

    def to_device(self, values: NDArray[Any]) -> Any:
        return np.array(values)

    def to_host(self, values: Any) -> NDArray[Any]:
        return np.array(values)

    def empty_pinned(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        return np.empty(shape, dtype=kind)

    @property
    def free(self) -> int:
        return 2**30


@cache
def compiled(folder: Path, count: str) -> ctypes.CDLL:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no compiler of C++")
    program, library = folder / "kernels.cu", folder / f"{count.replace(' ', '_')}.so"
    program.write_text(source(), encoding="utf-8")
    options = ["-x", "c++", "-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-include", str(HEADER)]
    subprocess.run([compiler, *options, f"-DCOUNT={count}", str(program), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@contextmanager
def opened(folder: Path) -> Iterator[OnProcessors]:
    yield OnProcessors(np, 0, folder=folder)


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    return _TYPES[value.dtype](int(value))
