"""Whether a result file is what it must be: names, shapes, types, finite numbers, a baseline, the sum of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ResultInvalid
from orchestration.science.stopping import look
from orchestration.science.xpcs.blocks import unmeasured
from orchestration.science.xpcs.frames import DenseRaw, Raw, Selection, SparseRaw
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.output import (
    INTENSITY,
    MULTITAU,
    ROOT,
    SCATTERING_1D,
    SCATTERING_2D,
    SEGMENTS_1D,
    TWOTIME,
)
from orchestration.science.xpcs.twotime import SEGMENTS

_SAMPLES = 8
"""Frames that are added up again."""

_SUM_TOLERANCE = 1e-5

_CONTRAST = 1.0
"""The most that g2 - 1 can be at a lag, for light with Gaussian statistics; more is noise, or an error."""

_SLACK = 0.1
"""By so much may the end of g2 leave the range from 1 to 1 + contrast, beside five times its error."""

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Expected:
    """One dataset of a result."""

    name: str
    shape: tuple[int, ...]
    dtype: type[np.generic] = np.float32
    finite: bool = True


class Result:
    """A result file that is open for reading."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file, self.path = file, path

    def has(self, name: str) -> bool:
        return name in self._file

    def __getitem__(self, name: str) -> h5py.Dataset:
        item = self._file.get(name)
        if not isinstance(item, h5py.Dataset):
            raise ResultInvalid(f"there is no {name}", where=str(self.path))
        return item

    def bins(self, name: str) -> NDArray[np.int64]:
        """A map of the qmap: the bin of each pixel, (rows, columns)."""
        found = self[f"{ROOT}/qmap/{name}"][()]
        if found.dtype.kind not in "iu" or not found.size or not 0 <= found.min() <= found.max() <= found.size:
            self.refuse(f"{ROOT}/qmap/{name} does not hold whole numbers from 0 to at most that of the pixels")
        return np.asarray(found, dtype=np.int64)

    @cached_property
    def dynamic(self) -> NDArray[np.int64]:
        return self.bins("dynamic_roi_map")

    def number(self, name: str) -> float:
        return float(self[name][()])

    def refuse(self, what: str) -> None:
        raise ResultInvalid(what, where=str(self.path))


def demand_valid(path: Path, *, raw: Raw | None = None) -> list[str]:
    """What was checked of a result file, and found right; with `raw`, some frames are added up again, too.

    Raises:
        ResultInvalid: naming the first thing that is not as it must be.
    """
    try:
        with h5py.File(path, "r") as file:
            return [check(Result(file, path), raw) for check in _CHECKS]
    except OSError as error:
        raise ResultInvalid(f"the result cannot be read: {error}", where=str(path)) from error


def _check_datasets(result: Result, _raw: Raw | None) -> str:
    count = 0
    for expected in _expected(result):
        look()
        dataset = result[expected.name]
        if dataset.shape != expected.shape or dataset.dtype != expected.dtype:
            right = f"{expected.shape} of {np.dtype(expected.dtype)}"
            result.refuse(f"{expected.name} is {dataset.shape} of {dataset.dtype}, not {right}")
        if expected.finite and not np.isfinite(dataset[()]).all():
            result.refuse(f"{expected.name} holds values that are not finite")
        count += 1
    return f"{count} datasets have their shape and type, and are finite"


def _expected(result: Result) -> Iterator[Expected]:
    dynamic, static = result.dynamic, result.bins("static_roi_map")
    # `unique` would import masked arrays, which takes as long as all the checks.
    parts = int(np.count_nonzero(np.bincount(static.ravel())[1:]))
    frames, bins = result[INTENSITY].shape[-1], int(dynamic.max())
    yield Expected(INTENSITY, (2, frames))
    yield Expected(SCATTERING_2D, (1, *dynamic.shape))
    yield Expected(SCATTERING_1D, (1, parts))
    yield Expected(SEGMENTS_1D, (len(result[SEGMENTS_1D]), parts))
    if result.has(MULTITAU):
        shape = (len(Lags.of(frames)), bins)
        yield Expected(f"{MULTITAU}/delay_list", shape[:1], np.int64)
        yield Expected(f"{MULTITAU}/normalized_g2", shape)
        # A bin of one pixel has no spread.
        yield Expected(f"{MULTITAU}/normalized_g2_err", shape, finite=False)
    if result.has(TWOTIME):
        chosen = result[f"{TWOTIME}/processed_bins"]
        yield Expected(f"{TWOTIME}/normalized_g2", (frames, len(chosen)))
        yield Expected(f"{TWOTIME}/normalized_g2_segments", (frames // SEGMENTS, SEGMENTS, len(chosen)))
        for number in range(len(chosen)):
            # That they are finite is seen in g2, the means of their diagonals: reading them takes as long as they did.
            yield Expected(f"{TWOTIME}/correlation_map/c2_{number + 1:05d}", (frames, frames), finite=False)


def _check_lags(result: Result, _raw: Raw | None) -> str:
    if not result.has(MULTITAU):
        return "there is no multi-tau correlation"
    lags = Lags.of(result[INTENSITY].shape[-1])
    if not np.array_equal(result[f"{MULTITAU}/delay_list"][()], lags.delay):
        result.refuse(f"the delays are not those of {lags.frames} frames")
    return f"{len(lags)} lags to {int(lags.delay[-1])} frames"


def _check_baseline(result: Result, _raw: Raw | None) -> str:
    """The last octave of each g2, which tends to 1, or stays up to the contrast above it."""
    if not result.has(MULTITAU) or not result.number(f"{MULTITAU}/config/normalize_frame"):
        return "the baseline is not known: frames were not normalised"
    last = slice(-4, None)
    g2, error = result[f"{MULTITAU}/normalized_g2"][last], result[f"{MULTITAU}/normalized_g2_err"][last]
    slack = _SLACK + 5.0 * (np.nan_to_num(error.max(axis=0), nan=np.inf) + _shot_noise(result, last))
    mean = g2.mean(axis=0)
    wrong = (mean < 1.0 - slack) | (mean > 1.0 + _CONTRAST + slack)
    if wrong.any():
        worst = int(np.argmax(wrong))
        result.refuse(f"g2 of dynamic bin {worst + 1} ends at {mean[worst]:.3f}, neither near 1 nor up to 1 above it")
    return f"the baselines are from {mean.min():.4f} to {mean.max():.4f}"


def _shot_noise(result: Result, some: slice) -> NDArray[np.float64]:
    """Of g2 of each dynamic bin at these lags: one over the square root of the number of photon pairs."""
    lags, dynamic = Lags.of(result[INTENSITY].shape[-1]), result.dynamic.ravel()
    size = np.bincount(dynamic)[1:]
    counts = np.bincount(dynamic, weights=result[SCATTERING_2D][0].ravel())[1:] / size
    counts *= result.number(f"{MULTITAU}/config/avg_frame")
    pairs = size * (lags.terms[some, None] * (counts * (1 << lags.level[some, None])) ** 2).mean(axis=0)
    return np.asarray(1.0 / np.sqrt(np.maximum(pairs, 1e-12)))


def _check_sums(result: Result, raw: Raw | None) -> str:
    """That the mean scattering, the brightness of the frames and the raw data tell the same."""
    qmap, config = result[f"{ROOT}/qmap/mask"][()] != 0, MULTITAU if result.has(MULTITAU) else TWOTIME
    threshold = result.number(f"{config}/config/crop_ratio_threshold")
    wanted = qmap if qmap.mean() < threshold else np.ones_like(qmap)
    means = result[INTENSITY][1].astype(np.float64)
    if raw is None:
        return "the raw data was not looked at"
    average = int(result.number(f"{config}/config/avg_frame"))
    chosen = Selection(
        begin=int(result.number(f"{config}/config/begin_frame")),
        end=int(result.number(f"{config}/config/end_frame")),
        stride=int(result.number(f"{config}/config/stride_frame")),
        average=average,
    ).of(raw.frames)
    if chosen.count != len(means):
        result.refuse(f"there are {len(means)} frames, of the raw data {chosen.count}")
    wanted = wanted & ~unmeasured(raw, chosen, qmap.ravel()).reshape(qmap.shape)
    for place in sorted({int(place) for place in np.linspace(0, chosen.count - 1, _SAMPLES)}):
        first = chosen.first + place * average * chosen.stride
        again = _mean(raw, slice(first, first + average * chosen.stride, chosen.stride), wanted)
        if abs(again - means[place]) > _SUM_TOLERANCE * max(abs(again), 1e-12):
            result.refuse(f"frame {place} has the mean {means[place]:.8g}, and {again:.8g} in the raw data")
    return "the frames that were added up again have the brightness that is stored"


def _mean(raw: Raw, frames: slice, wanted: NDArray[np.bool_]) -> float:
    """The mean of some frames, by other means than those of the correlation."""
    total = 0.0
    if isinstance(raw, SparseRaw):
        flat = wanted.ravel()
        for events in raw.events(frames.start, frames.stop, size=2**20):
            look()
            inside = flat[events.pixel] & ((events.frame.astype(np.int64) - frames.start) % frames.step == 0)
            total += int(events.count[inside].sum(dtype=np.int64))
    elif isinstance(raw, DenseRaw):
        one = np.empty((1, *wanted.shape), dtype=raw.dtype)
        for frame in range(frames.start, frames.stop, frames.step):  # all that are averaged may not fit the memory
            look()
            raw.read(slice(frame, frame + 1, 1), one)
            total += one[0, wanted].sum(dtype=np.float64)
    return total / (np.count_nonzero(wanted) * len(range(frames.start, frames.stop, frames.step)))


_CHECKS: tuple[Callable[[Result, Raw | None], str], ...] = (_check_datasets, _check_lags, _check_baseline, _check_sums)
