"""Which pixels are correlated, and over which is averaged: dynamic bins, their static bins, and groups of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.qmap import Qmap

GROUPS = 16
"""Into so many groups, at the most, are the pixels of a static bin divided: what the jackknife leaves out by turns."""

Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The pixels of all dynamic bins. A unit is one group of pixels of one static bin: the least that is summed."""

    pixel: Index
    """Of each pixel that is correlated, row * columns + column, ascending."""
    order: Index
    """Positions in `pixel`, unit after unit."""
    start: Index
    """Of each unit in `order`, and the end of the last."""
    unit_static: Index
    """The position in `static` of each unit; ascending."""
    unit_group: Index
    """Of each unit in its static bin."""
    static: Index
    """Numbers of the static bins."""
    parent: Index
    """The number of the dynamic bin of each static bin."""

    @classmethod
    def of(cls, qmap: Qmap) -> Bins:
        dynamic, static = qmap.dynamic.ravel(), qmap.static.ravel()
        pixel = np.flatnonzero(dynamic)
        held = np.bincount(static[pixel])
        numbers = np.flatnonzero(held)
        sizes = held[numbers]
        place = (np.cumsum(held > 0) - 1)[static[pixel]]
        parent = np.zeros(len(numbers), dtype=np.int64)
        parent[place] = dynamic[pixel]
        # numpy sorts numbers of 16 bits an order of magnitude faster than others.
        order = np.argsort(place.astype(np.uint16) if len(numbers) <= 1 << 16 else place, kind="stable")
        group = np.concatenate([np.arange(size) * min(GROUPS, size) // size for size in sizes])
        unit = np.repeat(np.arange(len(sizes)), sizes) * GROUPS + group
        start = np.flatnonzero(np.diff(unit, prepend=-1))
        units = unit[start]
        return cls(
            pixel=pixel,
            order=order,
            start=np.append(start, len(pixel)).astype(np.int64),
            unit_static=units // GROUPS,
            unit_group=units % GROUPS,
            static=numbers.astype(np.int64),
            parent=parent,
        )

    @property
    def units(self) -> int:
        return len(self.unit_static)

    @property
    def unit_size(self) -> Index:
        return np.diff(self.start)

    def unit_map(self, pixels: int) -> Index:
        """(pixels,): the unit of each pixel of the detector; -1 for none."""
        units = np.full(pixels, -1, dtype=np.int64)
        units[self.pixel[self.order]] = np.repeat(np.arange(self.units), self.unit_size)
        return units
