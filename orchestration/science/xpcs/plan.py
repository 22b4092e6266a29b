"""What is to be done with one raw file: which frames and pixels, and whether whole frames or events are looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ParametersInvalid
from orchestration.science.xpcs.bins import Bins
from orchestration.science.xpcs.blocks import AsEvents, AsFrames, occupancy, unmeasured
from orchestration.science.xpcs.frames import DenseRaw, FrameRange, SparseRaw
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.parameters import Parameters
from orchestration.science.xpcs.qmap import Qmap

_FEW_IN_EVENTS, _FEW_IN_FRAMES = 0.03, 0.015
"""Counts to a pixel and frame up to which events are quicker; those of whole frames have to be found first."""

_SEGMENTS = 16
"""Of the mean scattering as a function of time: at most so many."""

Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Plan:
    raw: DenseRaw | SparseRaw
    """In the way in which it is looked at."""
    chosen: FrameRange
    qmap: Qmap
    bins: Bins
    parameters: Parameters
    processed: NDArray[np.bool_]
    """(pixels,): those that count in the mean of a frame."""
    share: float
    """About how many of the pixels in bins have a count in a frame."""

    @classmethod
    def of(cls, raw: DenseRaw | SparseRaw, qmap: Qmap, parameters: Parameters) -> Plan:
        """Raises ParametersInvalid if no two frames are selected, or a bin that is not there."""
        qmap.demand_fits(raw.rows, raw.columns, raw=raw.path)
        parameters.selected(qmap.dynamic_bins)
        chosen = parameters.frames.of(raw.frames)
        if parameters.num_partial_g2 and chosen.count // parameters.num_partial_g2 < 2:
            what = f"{chosen.count} frames cannot be divided into {parameters.num_partial_g2} parts of two at least"
            raise ParametersInvalid(what, where="num_partial_g2")
        bins = Bins.of(qmap)
        share = occupancy(raw, chosen, bins.pixel)
        processed = _processed(qmap, parameters) & ~unmeasured(raw, chosen, qmap.mask.ravel())
        few = _FEW_IN_EVENTS if isinstance(raw, SparseRaw) else _FEW_IN_FRAMES
        countable = isinstance(raw, SparseRaw) or raw.dtype.kind in "ui"
        by_events = parameters.method == "sparse" or (parameters.method == "auto" and share <= few and countable)
        if by_events and not isinstance(raw, SparseRaw):
            raw = AsEvents(raw, processed)
        elif not by_events and isinstance(raw, SparseRaw):
            raw = AsFrames(raw)
        return cls(
            raw=raw, chosen=chosen, qmap=qmap, bins=bins, parameters=parameters, processed=processed, share=share
        )

    def partial(self, number: int) -> Plan:
        """The same for multi-tau of one of the equal parts of the frames, from 0."""
        chosen, length = self.chosen, self.chosen.count // self.parameters.num_partial_g2
        step = length * chosen.stride * chosen.average
        part = replace(chosen, first=chosen.first + number * step, stop=chosen.first + (number + 1) * step)
        parameters = replace(self.parameters, type="Multitau", save_G2=False, num_partial_g2=0)
        return replace(self, chosen=part, parameters=parameters)

    @property
    def method(self) -> str:
        return "sparse" if isinstance(self.raw, SparseRaw) else "dense"

    @property
    def pixels(self) -> int:
        return self.raw.rows * self.raw.columns

    @property
    def cropped(self) -> bool:
        return _cropped(self.qmap, self.parameters)

    @cached_property
    def lags(self) -> Lags:
        return Lags.of(self.chosen.count)

    @property
    def segment_level(self) -> int:
        """p, such that segments of 2^p frames are the most that there may be."""
        return (self.chosen.count // (_SEGMENTS + 1)).bit_length()

    @cached_property
    def others(self) -> Index:
        """Pixels that are correlated although they are in no bin, since G2 of all pixels is wanted."""
        if not self.parameters.save_G2:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(self.processed & (self.qmap.dynamic.ravel() == 0)).astype(np.int64)

    @cached_property
    def selected(self) -> list[tuple[int, Index]]:
        """The dynamic bins of which two-time functions are made, with their pixels ordered by static bin."""
        dynamic, static = self.qmap.dynamic.ravel(), self.qmap.static.ravel()
        found = []
        for number in self.parameters.selected(self.qmap.dynamic_bins):
            pixel = np.flatnonzero(dynamic == number)
            found.append((number, pixel[np.argsort(static[pixel], kind="stable")]))
        return found

    def parts(self, pixel: Index) -> Index:
        """For each pixel of a dynamic bin the part, from 0, whose mean divides its values."""
        if self.parameters.smooth == "dqmap":
            return np.zeros(len(pixel), dtype=np.int64)
        return np.unique(self.qmap.static.ravel()[pixel], return_inverse=True)[1].astype(np.int64)


def _cropped(qmap: Qmap, parameters: Parameters) -> bool:
    return qmap.valid_fraction < parameters.crop_ratio_threshold


def _processed(qmap: Qmap, parameters: Parameters) -> NDArray[np.bool_]:
    mask = qmap.mask.ravel()
    return mask if _cropped(qmap, parameters) else np.ones_like(mask)
