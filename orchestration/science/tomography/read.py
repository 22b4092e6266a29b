"""Scans in Data Exchange HDF5 files, read a few detector rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestration.science import filters, hdf5
from orchestration.science.errors import (
    AnglesMissing,
    FlatsMissing,
    FramesNotFinite,
    ProjectionsMissing,
    ScanUnreadable,
    ShapeMismatch,
)
from orchestration.science.stopping import look

Float32 = NDArray[np.float32]
Float64 = NDArray[np.floating]
Frames = NDArray[np.generic]

ROTATION = "/process/acquisition/rotation"
PIXEL_SIZE = "/measurement/instrument/detector/pixel_size"
FLAT_VALUE = "/process/acquisition/flat_fields/flat_field_value"
DARK_VALUE = "/process/acquisition/dark_fields/dark_field_value"
ENERGY = "/measurement/instrument/monochromator/energy"
DISTANCE = "/measurement/instrument/camera_motor_stack/setup/camera_distance"


@dataclass(frozen=True, kw_only=True)
class Fallbacks:
    """What to use where the file itself says nothing; values given here win over constants in the file."""

    angle_range: float | None = None
    """Degrees from the first projection to the last."""
    pixel_size_mm: float | None = None
    flat_value: float | None = None
    dark_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scan:
    """An open scan; arrays are (projection, row, column)."""

    path: Path
    data: h5py.Dataset
    flats: h5py.Dataset | float
    darks: h5py.Dataset | float
    angles: Float64
    """In radians, one per projection."""
    pixel_size_mm: float | None
    energy_kev: float | None
    distance_mm: float | None

    @property
    def projections(self) -> int:
        return int(self.data.shape[0])

    @property
    def rows(self) -> int:
        return int(self.data.shape[1])

    @property
    def width(self) -> int:
        return int(self.data.shape[2])

    def read(self, rows: slice, projections: slice = slice(None)) -> Frames:
        """Raw counts of some detector rows, (projections, rows, width).

        Raises:
            ScanTruncated: when the file's own structure holds but its data cannot be read.
            FramesNotFinite: on NaN or infinite values, naming the first bad frame.
        """
        with hdf5.reading(self.path):
            counts: Frames = self.data[projections, rows, :]
        if counts.dtype.kind == "f":
            _check_finite(counts, path=self.path, name="/exchange/data", first=projections.start or 0)
        return counts

    def field(self, kind: Literal["flats", "darks"], *, method: Literal["mean", "median"]) -> Float32:
        """The mean or median flat or dark frame, (rows, width)."""
        source = self.flats if kind == "flats" else self.darks
        if isinstance(source, float):
            return np.full((self.rows, self.width), source, dtype=np.float32)
        combine = np.mean if method == "mean" else np.median
        frame = np.empty((self.rows, self.width), dtype=np.float32)
        step = max(1, 2**26 // (source.shape[0] * self.width * 8))
        for row in range(0, self.rows, step):
            look()
            with hdf5.reading(self.path):
                frames = source[:, row : row + step, :].astype(np.float32)
            _check_finite(frames, path=self.path, name=str(source.name), first=0)
            frame[row : row + step] = combine(frames, axis=0)
        return frame


@contextmanager
def open_scan(path: Path, *, fallbacks: Fallbacks = Fallbacks()) -> Iterator[Scan]:
    """Open a scan for reading, with everything but the frames checked.

    Raises:
        ScanUnreadable: or one of its kinds, each naming what is wrong with the file.
    """
    with hdf5.open_file(path) as file:
        yield _describe(file, path=path, fallbacks=fallbacks)


def _describe(file: h5py.File, *, path: Path, fallbacks: Fallbacks) -> Scan:
    with hdf5.reading(path):
        data = _dataset(file, "/exchange/data")
        if data is None:
            raise ProjectionsMissing("the scan has no projections: /exchange/data is missing", where=str(path))
        if data.ndim != 3 or 0 in data.shape or data.shape[0] < 2 or data.shape[2] < 8:
            raise ShapeMismatch(f"/exchange/data has shape {data.shape}, not (angles, rows, columns)", where=str(path))
        if data.dtype.kind not in "iuf":
            raise ShapeMismatch(f"/exchange/data holds {data.dtype}, not numbers", where=str(path))
        pixel_size = fallbacks.pixel_size_mm or _number(file, PIXEL_SIZE)
        return Scan(
            path=path,
            data=data,
            flats=_field(file, "data_white", FLAT_VALUE, fallbacks.flat_value, data, path),
            darks=_field(file, "data_dark", DARK_VALUE, fallbacks.dark_value, data, path),
            angles=np.deg2rad(_angles(file, path=path, count=data.shape[0], angle_range=fallbacks.angle_range)),
            pixel_size_mm=pixel_size if pixel_size and pixel_size > 0 else None,
            energy_kev=_energy_kev(file),
            distance_mm=_number(file, DISTANCE),
        )


def _field(
    file: h5py.File, name: str, constant: str, given: float | None, data: h5py.Dataset, path: Path
) -> h5py.Dataset | float:
    frames = _dataset(file, f"/exchange/{name}")
    if frames is not None and frames.size:
        if frames.ndim != 3 or frames.shape[1:] != data.shape[1:]:
            what = f"/exchange/{name} has shape {frames.shape}, which does not fit the projections {data.shape}"
            raise ShapeMismatch(what, where=str(path))
        return frames
    value = given if given is not None else _number(file, constant)
    if value is None:
        raise FlatsMissing(
            f"/exchange/{name} is missing and there is no {constant.rpartition('/')[2]}", where=str(path)
        )
    return value


def _angles(file: h5py.File, *, path: Path, count: int, angle_range: float | None) -> Float64:
    """In degrees; from theta, from the rotation's settings, or over the given range."""
    theta = _dataset(file, "/exchange/theta")
    if theta is not None and theta.size:
        angles = np.asarray(theta[()], dtype=np.float64).ravel()
        if angles.size != count:
            raise ShapeMismatch(f"/exchange/theta has {angles.size} angles for {count} projections", where=str(path))
        if not np.isfinite(angles).all():
            raise FramesNotFinite("/exchange/theta has values that are not finite", where=str(path))
        return angles
    start = _number(file, f"{ROTATION}/rotation_start") or 0.0
    step = _number(file, f"{ROTATION}/rotation_step")
    span = _number(file, f"{ROTATION}/range") if angle_range is None else angle_range
    if step and angle_range is None:
        return start + step * np.arange(count)
    if not span:
        raise AnglesMissing("the scan does not say its angles", where=str(path))
    return start + np.linspace(0.0, span, count)


def _energy_kev(file: h5py.File) -> float | None:
    energy = _number(file, ENERGY)
    if energy is None or energy <= 0:
        return None
    return energy / 1000.0 if energy > 1000.0 else energy


def _dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        return None
    if item.external or item.is_virtual or item.file.filename != file.filename:
        # It may be that of somebody else, which must not become a result of this scan.
        raise ScanUnreadable(
            f"{name} of the scan lies in another file", where=file.filename, next_step="write it into the scan itself"
        )
    filters.make_available(item)
    return item


def _number(file: h5py.File, name: str) -> float | None:
    """The first value of a dataset, whatever its shape; None if there is none or it is not a finite number."""
    item = file.get(name)
    if not isinstance(item, h5py.Dataset) or not item.size:
        return None
    try:
        value = float(np.asarray(item[()]).ravel()[0])
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _check_finite(frames: Frames, *, path: Path, name: str, first: int) -> None:
    bad = ~np.isfinite(frames).all(axis=(1, 2))
    if bad.any():
        where = f"{path}, frame {first + int(np.argmax(bad))} of {name}"
        raise FramesNotFinite(f"{int(bad.sum())} frame(s) hold values that are not finite", where=where)
