"""Two-time correlation of whole frames on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.gpu.device import Gpu
from orchestration.science.xpcs.twotime import Float32, Index, WholeFrames, columns


@dataclass(frozen=True)
class GpuWholeFrames(WholeFrames):
    """Frames that are stored whole in this machine's memory; the products of a strip are made on the device."""

    gpu: Gpu

    @classmethod
    def on(cls, gpu: Gpu, values: NDArray[np.generic], part: Index) -> GpuWholeFrames:
        plain = WholeFrames.of(values, part)
        return cls(plain.values, plain.part, plain.factor, gpu)

    def fill(self, first: int, out: Float32) -> None:
        cupy, rows = self.gpu.cupy, len(out)
        products = cupy.zeros((rows, self.frames - first), dtype=np.float32)
        factor, part = cupy.asarray(self.factor[first:]), cupy.asarray(self.part)
        for some in columns(self.values):
            whole = cupy.asarray(self.values[first:, some]).astype(np.float32)
            whole *= factor[:, part[some]]
            products += whole[:rows] @ whole.T
        out[:, first:] = self.gpu.to_host(products)
