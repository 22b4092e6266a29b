"""How the pixels of a detector are laid out for the dense correlator: side by side in panels of equal width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH = 256
"""Pixels of a panel. Those of 16-bit frames come in a few cache lines of each frame, and a panel of some hundred frames
fits the cache of a processor."""

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Panels:
    """Panels of WIDTH pixels, flat in `pixel`, (panels * WIDTH,).

    Pixels that are neighbours in a frame are read several times faster. So where at least half of a stretch of the
    detector is wanted, its panel has all of it; the other pixels that are wanted are collected in panels at the end.
    """

    pixel: Index
    place: Index
    """Of each wanted pixel, its position in `pixel`."""

    @classmethod
    def of(cls, wanted: Index, *, pixels: int) -> Panels:
        """Panels that hold these pixels (ascending) of a detector that has so many."""
        stretch = wanted // WIDTH
        held = np.bincount(stretch, minlength=-(-pixels // WIDTH))
        whole = (held >= WIDTH // 2) & (np.arange(len(held)) < pixels // WIDTH)
        starts = np.flatnonzero(whole) * WIDTH
        alone = wanted[~whole[stretch]]
        if len(alone):
            alone = np.append(alone, np.full(-len(alone) % WIDTH, alone[-1]))
        pixel = np.concatenate([(starts[:, None] + np.arange(WIDTH)).ravel(), alone])
        place = np.empty(pixels, dtype=np.int64)
        place[pixel[::-1]] = np.arange(len(pixel))[::-1]  # of one that is repeated, the first
        return cls(pixel, place[wanted])

    def __len__(self) -> int:
        return len(self.pixel) // WIDTH
