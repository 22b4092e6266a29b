"""Everything that can be chosen about a correlation, with the names and meanings of boost_corr's options."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal

from orchestration.science.errors import ParametersInvalid
from orchestration.science.xpcs.frames import Selection

Kind = Literal["Multitau", "Twotime", "Both"]
Method = Literal["auto", "dense", "sparse"]

_MOST_MEMORY = 1 << 20
"""GiB; no machine has more."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of one correlation."""

    type: Kind = "Multitau"
    frames: Selection = field(default_factory=Selection)
    normalize_frame: bool = True
    """Each frame is divided by its mean."""
    smooth: Literal["sqmap", "dqmap"] = "sqmap"
    """Over which bins the frames are divided by their mean, for two-time correlation."""
    dq_selection: str = "all"
    """Dynamic bins of which two-time functions are made: ``all``, or numbers and ranges as in ``1,2,5-7``."""
    save_G2: bool = False  # noqa: N815 - what boost_corr, and the files that it writes, call it
    """Store G2, IP and IF of every pixel."""
    num_partial_g2: int = 0
    """Into so many equal parts are the frames divided for g2 as a function of time; 0 for none."""
    crop_ratio_threshold: float = 0.5
    """With a smaller share of valid pixels, the others are left out; else they count in the mean of a frame."""
    gpu_id: int = -1
    """The GPU that computes; -1 for processors, -2 for any GPU that is free."""
    method: Method = "auto"
    """Whether frames are correlated whole or as events; by their occupancy if `auto`."""
    memory: float | None = None
    """GiB to use, beside some for the frames being read; half of what is free if absent."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.crop_ratio_threshold <= 1.0:
            what = f"crop_ratio_threshold is {self.crop_ratio_threshold}, not from 0 to 1"
            raise ParametersInvalid(what, where="parameters")
        if self.num_partial_g2 < 0:
            raise ParametersInvalid(f"num_partial_g2 is {self.num_partial_g2}, below 0", where="parameters")
        if self.gpu_id < -2:
            raise ParametersInvalid(f"gpu_id is {self.gpu_id}, below -2", where="parameters")
        if self.memory is not None and not 0 < self.memory <= _MOST_MEMORY:
            what = f"memory is {self.memory} GiB, not above 0 and up to {_MOST_MEMORY}"
            raise ParametersInvalid(what, where="parameters")
        _ranges(self.dq_selection)

    @property
    def multitau(self) -> bool:
        return self.type != "Twotime"

    @property
    def twotime(self) -> bool:
        return self.type != "Multitau"

    @property
    def memory_bytes(self) -> int:
        if self.memory is not None:
            return int(self.memory * 2**30)
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2

    def selected(self, bins: int) -> list[int]:
        """The dynamic bins of the selection, ascending.

        Raises:
            ParametersInvalid: if one is not there.
        """
        ranges = _ranges(self.dq_selection) or [(1, bins)]
        if any(first < 1 or last > bins for first, last in ranges):
            what = f"dq_selection {self.dq_selection!r} asks for bins that are not among the qmap's 1 to {bins}"
            raise ParametersInvalid(what, where="parameters")
        return sorted({number for first, last in ranges for number in range(first, last + 1)})


def _ranges(selection: str) -> list[tuple[int, int]]:
    """First and last of each part of a selection, whatever bins there are; none for all."""
    if selection.strip() in {"all", ""}:
        return []
    found = []
    for part in selection.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            what = f"dq_selection {selection!r} is not like 1,2,5-7"
            raise ParametersInvalid(what, where="parameters")
        found.append((first, last))
    return found
