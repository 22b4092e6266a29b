"""The lags of a multi-tau correlation with four points to an octave, as boost_corr has them.

Level l holds the frames summed 2^l at a time. Lags are 1 to 8 frames at level 0, and 5 to 8 of its frames at every
level above (K. Schätzel, Quantum Optics 2 (1990) 287, with p = 8 points and m = 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ParametersInvalid

FIRST, LAST = 5, 8
"""Distances in frames of a level; level 0 has those below FIRST, too."""


@dataclass(frozen=True)
class Lags:
    """All lags that have at least one pair of frames, in ascending order."""

    frames: int
    """N, of level 0."""
    level: NDArray[np.int64]
    """Of each lag."""
    distance: NDArray[np.int64]
    """Of each lag, in frames of its level."""

    def __len__(self) -> int:
        return len(self.level)

    @property
    def delay(self) -> NDArray[np.int64]:
        """In frames of level 0."""
        return self.distance << self.level

    @property
    def terms(self) -> NDArray[np.int64]:
        """How many pairs of frames there are at each lag."""
        return (self.frames >> self.level) - self.distance

    @property
    def levels(self) -> int:
        return int(self.level[-1]) + 1

    @classmethod
    def of(cls, frames: int) -> Lags:
        """The lags of a series of so many frames.

        A series of four frames or fewer has fewer than the four lags that boost_corr lists for it, the last of which
        it computes as 0/0.

        Raises:
            ParametersInvalid: if there are fewer than two frames.
        """
        if frames < 2:
            raise ParametersInvalid(f"{frames} frame(s) have no pair", where="frame selection")
        found = [(0, distance) for distance in range(1, FIRST) if distance < frames]
        level = 0
        while frames >> level > FIRST:
            found += [(level, distance) for distance in range(FIRST, LAST + 1) if distance < frames >> level]
            level += 1
        levels, distances = np.array(found, dtype=np.int64).T
        return cls(frames, levels, distances)
