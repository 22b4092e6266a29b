"""From detector counts to line integrals, a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.arrays import Array, Device

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Divides by the open beam and takes the logarithm.

    Pixels that never see the beam (a flat no brighter than the dark) have no transmission; they read as empty rather
    than as infinitely dense. Their share is in `dead`.
    """

    dark: Float32
    scale: Float32
    """One over flat less dark, (rows, width)."""
    dead: NDArray[np.bool_]
    floor: float = 0.01
    zinger_threshold: float = 0.0
    """Transmission by which a lone bright pixel must exceed both neighbouring projections; 0 leaves them in."""

    @classmethod
    def of(cls, *, flat: Float32, dark: Float32, floor: float = 0.01, zinger_threshold: float = 0.0) -> Normaliser:
        beam = flat - dark
        dead = beam <= 1e-6 * max(float(np.median(beam)), 1e-30)
        scale = np.where(dead, 0.0, 1.0 / np.where(dead, 1.0, beam)).astype(np.float32)
        return cls(dark=dark, scale=scale, dead=dead, floor=floor, zinger_threshold=zinger_threshold)

    def line_integrals(self, counts: Array, *, first_row: int, device: Device) -> Array:
        """Sinograms (rows, projections, width) in float32 from counts (projections, rows, width)."""
        xp = device.xp
        rows = slice(first_row, first_row + counts.shape[1])
        values = xp.empty((counts.shape[1], counts.shape[0], counts.shape[2]), dtype=xp.float32)
        xp.subtract(counts.swapaxes(0, 1), device.asarray(self.dark[rows])[:, None, :], out=values, dtype=xp.float32)
        values *= device.asarray(self.scale[rows])[:, None, :]
        if self.dead[rows].any():
            values += device.asarray(self.dead[rows].astype(np.float32))[:, None, :]
        if self.zinger_threshold > 0:
            remove_zingers(values, threshold=self.zinger_threshold, device=device)
        xp.maximum(values, np.float32(self.floor), out=values)
        xp.log(values, out=values)
        xp.negative(values, out=values)
        return values


def remove_zingers(values: Array, *, threshold: float, device: Device) -> None:
    """Replace, in place, what stands out of the previous and the next projection (axis 1) by their brighter one."""
    if values.shape[1] < 3:
        return
    xp = device.xp
    before = xp.concatenate([values[:, 1:2], values[:, :-1]], axis=1)
    after = xp.concatenate([values[:, 1:], values[:, -2:-1]], axis=1)
    # The median of three; of a zinger and its two neighbours that is the brighter neighbour.
    median = xp.maximum(xp.minimum(before, after), xp.minimum(xp.maximum(before, after), values))
    xp.copyto(values, median, where=values - median > threshold)
