"""Result files of a correlation, as boost_corr lays them out and as pyXpcsViewer reads them.

Small arrays are read at once; two-time maps, which may have a hundred million values, one at a time when asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestration.science import hdf5
from orchestration.science.errors import NotHdf5, ResultInvalid
from orchestration.science.xpcs.geometry import BinCenters, Float64, Geometry, Index

Float32 = NDArray[np.float32]
Kind = Literal["dynamic", "static"]

MULTITAU = "/xpcs/multitau"
TWOTIME = "/xpcs/twotime"
QMAP = "/xpcs/qmap"
_OURS = {
    "weighted": (f"{MULTITAU}/normalized_g2_weighted", f"{MULTITAU}/ours/g2_weighted"),
    "jackknife_err": (f"{MULTITAU}/normalized_g2_jackknife_err", f"{MULTITAU}/ours/g2_jackknife_err"),
}
"""What boost_corr does not have, and where it may be."""
DETECTOR = "/entry/instrument/detector_1"
ENERGY = "/entry/instrument/incident_beam/incident_energy"


@dataclass(frozen=True, kw_only=True)
class Multitau:
    """g2 at T lags in `n` dynamic bins."""

    delay: Index
    """(T,), in processed frames."""
    seconds: Float64
    """(T,)."""
    g2: Float64
    """(T, n): the mean over static bins."""
    g2_err: Float64
    """(T, n): the spread over pixels, an estimate that ignores how g2 was averaged."""
    weighted: Float64 | None
    """(T, n): the mean over static bins by their pixels. Only our own correlator writes it."""
    jackknife_err: Float64 | None
    """(T, n): the standard error of `g2`, from leaving out groups of pixels. Only our own correlator writes it."""

    @property
    def jackknifed(self) -> NDArray[np.bool_]:
        """(n,): where at least half of the lags that have any error have one of the jackknife."""
        if self.jackknife_err is None:
            return np.zeros(self.g2.shape[1], dtype=np.bool_)
        better, other = ((np.isfinite(error) & (error > 0)).sum(axis=0) for error in (self.jackknife_err, self.g2_err))
        return np.asarray((better > 0) & (2 * better >= other), dtype=np.bool_)

    @property
    def best_err(self) -> Float64:
        """(T, n): for each bin the more reliable error of `g2`, of those that there are."""
        if self.jackknife_err is None:
            return self.g2_err
        return np.where(self.jackknifed, self.jackknife_err, self.g2_err)


@dataclass(frozen=True, kw_only=True)
class Twotime:
    """Two-time functions of N frames in the m bins that were processed."""

    path: Path
    names: tuple[str, ...]
    """Of the maps, in the order of `bins`."""
    bins: Index
    """(m,): dynamic bins, from 1."""
    frame_seconds: float
    g2: Float64
    """(N, m), at lags from 0."""
    segments: Float64
    """(N // 5, 5, m): g2 inside of five blocks of frames, one after the other."""

    @property
    def frames(self) -> int:
        return len(self.g2)

    def map(self, index: int) -> Float32:
        """The whole map (N, N) of a bin by its place in `bins`; the file has its upper half.

        Raises:
            ResultInvalid: if it is not square, or not of N frames.
            ScanUnreadable: if it cannot be read any more.
        """
        where = f"{TWOTIME}/correlation_map/{self.names[index]}"
        with _opened(self.path) as file:
            half = np.asarray(_array(file, where, ndim=2), dtype=np.float32)
        if half.shape != (self.frames, self.frames):
            _refuse(self.path, f"{where} has shape {half.shape}, not that of {self.frames} frames")
        whole: Float32 = half + half.T
        np.fill_diagonal(whole, np.diagonal(half))
        return whole


@dataclass(frozen=True, kw_only=True)
class Result:
    """All of a result but its two-time maps. `multitau`, or `twotime`, is None where that was not computed."""

    path: Path
    frame_time: float
    """Seconds from one frame of the detector to the next."""
    stride: int
    average: int
    dynamic: BinCenters
    static: BinCenters
    """Those that hold a pixel: as many as the points of `scattering_1d`."""
    geometry: Geometry
    scattering_2d: Float32
    """(rows, columns), mean counts of a frame."""
    mask: NDArray[np.bool_]
    """(rows, columns)."""
    scattering_1d: Float64
    """(static bins,), mean counts of a pixel in a frame."""
    segments: Float64
    """(S, static bins), in a unit that depends on the kind of analysis: see `scaled_segments`."""
    intensity: Float64
    """(2, N): numbers of frames, and the mean counts over pixels."""
    multitau: Multitau | None
    twotime: Twotime | None

    @property
    def name(self) -> str:
        """Of the measurement: the file's, without what the correlation has put behind it."""
        return self.path.stem.removesuffix("_results")

    @property
    def frame_seconds(self) -> float:
        """From one processed frame to the next."""
        return self.frame_time * self.stride * self.average

    @property
    def analysis_type(self) -> str:
        return "Both" if self.multitau and self.twotime else "Multitau" if self.multitau else "Twotime"

    @property
    def scaled_segments(self) -> Float64:
        """(S, static bins): the segments, times one number that makes the mean of all equal `scattering_1d`.

        boost_corr stores shares of the mean, in normalised frames perhaps, or means: only so they can be compared.
        """
        total = float(np.nansum(self.segments)) / max(1, len(self.segments))
        return self.segments * (float(np.nansum(self.scattering_1d)) / total if total > 0 else 1.0)


def open_result(path: Path) -> Result:
    """Read a result file.

    Raises:
        ScanUnreadable: or one of its kinds, if it is not a whole HDF5 file.
        ResultInvalid: if a part is missing, or the parts do not fit each other.
    """
    with _opened(path) as file:
        if MULTITAU not in file and TWOTIME not in file:
            _refuse(path, f"there is neither {MULTITAU} nor {TWOTIME}")
        config = f"{MULTITAU if MULTITAU in file else TWOTIME}/config"
        frame_time = _required(file, f"{DETECTOR}/frame_time")
        stride, average = (int(_number(file, f"{config}/{name}_frame") or 1) for name in ("stride", "avg"))
        step = frame_time * stride * average
        dynamic, static = _centers(file, "dynamic"), _centers(file, "static")
        found = Result(
            path=path,
            frame_time=frame_time,
            stride=stride,
            average=average,
            dynamic=dynamic,
            static=static,
            geometry=_geometry(file),
            scattering_2d=np.asarray(_array(file, "/xpcs/temporal_mean/scattering_2d", ndim=3)[0], dtype=np.float32),
            mask=_array(file, f"{QMAP}/mask", ndim=2) != 0,
            scattering_1d=_floats(file, "/xpcs/temporal_mean/scattering_1d", (1, len(static)))[0],
            segments=_floats(file, "/xpcs/temporal_mean/scattering_1d_segments", (-1, len(static))),
            intensity=_floats(file, "/xpcs/spatial_mean/intensity_vs_time", (2, -1)),
            multitau=_multitau(file, step, len(dynamic)) if MULTITAU in file else None,
            twotime=_twotime(file, path, step, dynamic) if TWOTIME in file else None,
        )
    if found.mask.shape != found.scattering_2d.shape:
        _refuse(path, f"the mask is for {found.mask.shape} pixels, the pattern has {found.scattering_2d.shape}")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with hdf5.open_file(path) as file, hdf5.reading(path):
            yield file
    except NotHdf5 as error:
        next_step = "give a result of a correlation, *_results.hdf"
        raise NotHdf5("the result is not an HDF5 file", where=str(path), next_step=next_step) from error


def _multitau(file: h5py.File, step: float, bins: int) -> Multitau:
    delay = _array(file, f"{MULTITAU}/delay_list", ndim=1).astype(np.int64)
    if not len(delay) or (np.diff(delay) <= 0).any() or delay[0] <= 0:
        _refuse(Path(file.filename), f"{MULTITAU}/delay_list does not ascend from above 0")
    shape = (len(delay), bins)
    extra = {
        name: next((_floats(file, where, shape) for where in places if where in file), None)
        for name, places in _OURS.items()
    }
    return Multitau(
        delay=delay,
        seconds=np.asarray(delay * step, dtype=np.float64),
        g2=_floats(file, f"{MULTITAU}/normalized_g2", shape),
        g2_err=_floats(file, f"{MULTITAU}/normalized_g2_err", shape),
        weighted=extra["weighted"],
        jackknife_err=extra["jackknife_err"],
    )


def _twotime(file: h5py.File, path: Path, step: float, dynamic: BinCenters) -> Twotime:
    bins = _array(file, f"{TWOTIME}/processed_bins", ndim=1).astype(np.int64)
    maps = file.get(f"{TWOTIME}/correlation_map")
    names = tuple(sorted(maps)) if isinstance(maps, h5py.Group) else ()
    if len(names) != len(bins) or not np.isin(bins, dynamic.number).all():
        what = f"{len(names)} two-time maps for the processed bins {_few(bins)} of {len(dynamic)}"
        _refuse(path, f"there are {what}")
    g2 = _floats(file, f"{TWOTIME}/normalized_g2", (-1, len(bins)))
    segments = _floats(file, f"{TWOTIME}/normalized_g2_segments", (len(g2) // 5, 5, len(bins)))
    return Twotime(path=path, names=names, bins=bins, frame_seconds=step, g2=g2, segments=segments)


def _centers(file: h5py.File, kind: Kind) -> BinCenters:
    """`*_index_mapping` has, for each bin number, its place on the grid of both axes, the second running faster."""
    pixels = np.bincount(np.maximum(0, _array(file, f"{QMAP}/{kind}_roi_map", ndim=2).astype(np.int64)).ravel())[1:]
    # g2 has a column for each dynamic bin up to the last; the scattering a point only for a static bin with pixels.
    number = 1 + (np.arange(len(pixels)) if kind == "dynamic" else np.flatnonzero(pixels))
    first, second = (_array(file, f"{QMAP}/{kind}_v_list_dim{axis}", ndim=1).astype(np.float64) for axis in (0, 1))
    mapping = _array(file, f"{QMAP}/{kind}_index_mapping", ndim=1).astype(np.int64)
    grid = tuple(_array(file, f"{QMAP}/{kind}_num_pts", ndim=1).astype(int).tolist())
    path = Path(file.filename)
    if not len(number) or len(mapping) < number[-1] or grid != (len(first), len(second)):
        _refuse(path, f"the {kind} bins do not fit their {len(mapping)} places on a grid of {grid}")
    place = mapping[number - 1]
    if place.min() < 0 or place.max() >= len(first) * len(second):
        _refuse(path, f"the places of {kind} bins lie outside their grid of {grid}")
    names, units = (_texts(file, f"{QMAP}/map_{what}") for what in ("names", "units"))
    return BinCenters(
        number=number,
        pixels=pixels[number - 1],
        names=names,
        units=units,
        first=first[place // len(second)],
        second=second[place % len(second)],
        grid=(len(first), len(second)),
    )


def _geometry(file: h5py.File) -> Geometry:
    return Geometry(
        center_x=_number(file, f"{QMAP}/beam_center_x"),
        center_y=_number(file, f"{QMAP}/beam_center_y"),
        pixel_size=_number(file, f"{QMAP}/pixel_size"),
        distance=_number(file, f"{QMAP}/detector_distance"),
        energy=_number(file, f"{QMAP}/energy") or _energy(file),
    )


def _energy(file: h5py.File) -> float | None:
    """keV, as the beamline writes it, unless it says that these are eV."""
    value = _number(file, ENERGY)
    in_ev = value is not None and str(file[ENERGY].attrs.get("units", "keV")) == "eV"
    return value / 1000.0 if value is not None and in_ev else value


def _number(file: h5py.File, where: str) -> float | None:
    """A finite number, however its dataset is shaped; None if there is none."""
    dataset = file.get(where)
    if not isinstance(dataset, h5py.Dataset) or dataset.size != 1 or dataset.dtype.kind not in "iuf":
        return None
    value = float(np.ravel(dataset[()])[0])
    return value if np.isfinite(value) else None


def _required(file: h5py.File, where: str) -> float:
    value = _number(file, where)
    if value is None or value <= 0:
        _refuse(Path(file.filename), f"there is no positive number {where}, without which lags have no times")
    return value


def _array(file: h5py.File, where: str, *, ndim: int) -> NDArray[np.generic]:
    dataset = file.get(where)
    if not isinstance(dataset, h5py.Dataset):
        _refuse(Path(file.filename), f"there is no {where}")
    if dataset.ndim != ndim or dataset.dtype.kind not in "biuf" or 0 in dataset.shape[:1]:
        _refuse(Path(file.filename), f"{where} has shape {dataset.shape} and type {dataset.dtype}")
    values: NDArray[np.generic] = dataset[()]
    return values


def _floats(file: h5py.File, where: str, shape: tuple[int, ...]) -> Float64:
    """An array of this shape; -1 stands for any length."""
    values = _array(file, where, ndim=len(shape))
    if any(want not in (-1, have) for want, have in zip(shape, values.shape, strict=True)):
        _refuse(Path(file.filename), f"{where} has shape {values.shape}, not {shape}".replace("-1", "any"))
    return values.astype(np.float64)


def _texts(file: h5py.File, where: str) -> tuple[str, str]:
    dataset = file.get(where)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape != (2,):
        _refuse(Path(file.filename), f"there are not two names in {where}")
    first, second = (item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in dataset[()])
    return first, second


def _refuse(path: Path, what: str) -> NoReturn:
    raise ResultInvalid(
        what, where=str(path), next_step="run the correlation again, with its qmap made for this detector"
    )


def _few(bins: Index) -> str:
    shown = ", ".join(map(str, bins[:5]))
    return f"{shown}, ..." if len(bins) > 5 else shown
