"""Where on the detector, and in q, a result has its numbers: the centres of its bins, and the beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Index = NDArray[np.int64]

HC = 12.398419843
"""keV Å: Planck's constant times the speed of light."""


@dataclass(frozen=True, kw_only=True)
class BinCenters:
    """Where the bins of a kind lie on the two axes of the qmap; all arrays are in the order of bin numbers."""

    number: Index
    """(n,), from 1."""
    pixels: Index
    """(n,), in each; some may be 0 in files that are not ours."""
    names: tuple[str, str]
    """Of the axes: q and phi mostly, or x and y, or others of pySimpleMask."""
    units: tuple[str, str]
    first: Float64
    """(n,), on the first axis."""
    second: Float64
    """(n,), on the second axis."""
    grid: tuple[int, int]
    """How many bins the axes were divided into; not all of them hold pixels."""

    def __len__(self) -> int:
        return len(self.number)

    @property
    def q(self) -> Float64 | None:
        """(n,), in `units[0]`; None where the first axis is not q."""
        return self.first if self.names[0] == "q" else None

    @property
    def phi(self) -> Float64 | None:
        """(n,), in `units[1]`; None where the second axis is not phi."""
        return self.second if self.names[1] == "phi" else None

    def label(self, index: int) -> str:
        """Such as ``q = 0.0123 Å⁻¹, φ = 45°``; the second axis only where it is divided."""
        text = self.axis_label(0, self.first[index])
        return f"{text}, {self.axis_label(1, self.second[index])}" if self.grid[1] > 1 else text

    def axis_label(self, axis: int, value: float) -> str:
        """Such as ``φ = 45°``."""
        name, unit = self.names[axis], self.units[axis]
        text = f"{value:#.3g}" if name.startswith("q") else f"{value:.1f}".removesuffix(".0")
        degrees = unit in {"°", "deg", "degree", "degrees"}
        return f"{'φ' if name == 'phi' else name} = {text.replace('-', '−')}{'°' if degrees else f' {unit}'}"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The experiment as the qmap has it; None where it has not."""

    center_x: float | None
    """Pixels, of columns."""
    center_y: float | None
    """Pixels, of rows."""
    pixel_size: float | None
    """In the unit of `distance`, which is the metre in qmaps of today."""
    distance: float | None
    energy: float | None
    """keV."""

    @property
    def q_per_pixel(self) -> float | None:
        """1/Å for each pixel from the beam, at small angles; None where something for it is missing."""
        if not (self.pixel_size and self.distance and self.energy):
            return None
        return 2.0 * np.pi * self.energy / HC * self.pixel_size / self.distance
