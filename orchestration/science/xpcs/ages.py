"""The mean scattering of each tenth of the time: in a result with two-time functions alone, as boost_corr has it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.frames import TimedEvents
from orchestration.science.xpcs.plan import Plan

MOST = 10
"""With fewer frames, there are as many ages as frames."""

Index = NDArray[np.int64]


class Ages:
    """Mean frames of each of them, over static bins."""

    def __init__(self, plan: Plan) -> None:
        self._count = min(MOST, plan.chosen.count)
        self._length = plan.chosen.count // self._count
        self._average = plan.chosen.average
        self._place = np.full(plan.pixels, -1, dtype=np.int64)
        bins = plan.bins
        static = np.empty(len(bins.pixel), dtype=np.int64)
        static[bins.order] = np.repeat(bins.unit_static, bins.unit_size)
        self._place[bins.pixel] = static
        self._pixel, self._static = bins.pixel, static
        self._size = np.bincount(static)
        self._sums = np.zeros((self._count, len(self._size)))

    def edges(self, first: int, stop: int) -> list[int]:
        """From the one to the other, with all at which an age begins between them."""
        return [first, *range(first // self._length * self._length + self._length, stop, self._length), stop]

    def add(self, first: int, sums: NDArray[np.float64]) -> None:
        """Take the sums of frames of one age, (pixels,), of which one is `first`."""
        age = first // self._length
        if age < self._count:
            self._sums[age] += np.bincount(self._static, weights=sums[self._pixel], minlength=len(self._size))

    def count(self, events: TimedEvents) -> None:
        age, place = events.time // self._length, self._place[events.pixel]
        inside = (events.time >= 0) & (age < self._count) & (place >= 0)
        cells = age[inside] * len(self._size) + place[inside]
        found = np.bincount(cells, weights=events.count[inside], minlength=self._sums.size)
        self._sums += found.reshape(self._sums.shape)

    @property
    def means(self) -> NDArray[np.float64]:
        means: NDArray[np.float64] = self._sums / self._size / (self._length * self._average)
        return means
