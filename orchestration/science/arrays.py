"""Which array library computes: numpy on processors, cupy on a GPU."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import scipy.fft

from orchestration.science.errors import DeviceMissing

DeviceName = Literal["auto", "cpu", "gpu"]

Array = Any
"""An array of numpy or of cupy: the same code runs on both, and no common type exists."""


@dataclass(frozen=True)
class Device:
    """An array library with its Fourier transforms."""

    name: Literal["cpu", "gpu"]
    xp: ModuleType
    fft: ModuleType

    def asarray(self, values: Array) -> Array:
        return self.xp.asarray(values)

    def to_host(self, values: Array) -> np.ndarray[Any, Any]:
        if self.name == "cpu":
            return np.asarray(values)
        host: np.ndarray[Any, Any] = self.xp.asnumpy(values)
        return host


CPU = Device(name="cpu", xp=np, fft=scipy.fft)


def choose_device(name: DeviceName) -> Device:
    """`auto` takes the GPU when cupy, cufinufft and a device are all there.

    Raises:
        DeviceMissing: when `gpu` is asked for and one of them is not.
    """
    if name == "cpu":
        return CPU
    try:
        return _gpu()
    except DeviceMissing:
        if name == "gpu":
            raise
        return CPU


def _gpu() -> Device:
    try:
        cupy = importlib.import_module("cupy")
        importlib.import_module("cufinufft")
        fft = importlib.import_module("cupyx.scipy.fft")
        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # the CUDA libraries raise kinds of their own when a driver is absent or too old
        raise DeviceMissing(f"no GPU can be used: {error}") from error
    if count == 0:
        raise DeviceMissing("no GPU can be used: CUDA sees no device")
    return Device(name="gpu", xp=cupy, fft=fft)
