"""Values out of HDF5 files whose writers change their minds: text as bytes, numbers as arrays of one, keys that go."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from orchestration.errors import ScanUnreadable
from orchestration.ledger.service import Json

SAMPLES = 10
"""Values kept of a long series, evenly spaced, the first and the last among them."""


@dataclass
class Reader:
    """An open file; what was asked for and is not there, or cannot be used, is noted in `missing`."""

    file: h5py.File
    missing: list[str] = field(default_factory=list)

    def value(self, path: str) -> Json:
        """A text or number; a short list where the values of a series differ."""
        series = self.series(path)
        if not series:
            return None
        return series[0] if all(each == series[0] for each in series) else [*series]

    def text(self, path: str) -> str:
        """The first value as text; empty where there is none. ``None`` and ``nan`` written as text are none."""
        series = self.series(path)
        found = str(series[0]).strip() if series else ""
        return "" if found.lower() in {"none", "nan", "null"} else found

    def series(self, path: str) -> list[str | int | float | bool]:
        """About `SAMPLES` of the values, without those that are not finite."""
        values = _plain(self._read(path))
        if not values and path not in self.missing:
            self.missing.append(path)
        return values

    def unit(self, path: str) -> str:
        """As the writer noted it on the dataset."""
        dataset = self._dataset(path)
        if dataset is None:
            return ""
        for name in ("units", "unit"):
            noted = _plain(np.asarray(dataset.attrs.get(name, [])))
            if noted and str(noted[0]).strip():
                return str(noted[0]).strip()
        return ""

    def _read(self, path: str) -> npt.NDArray[np.generic]:
        dataset = self._dataset(path)
        if dataset is None or dataset.shape is None:
            return np.array([])
        try:
            return _sampled(dataset)
        except (OSError, TypeError, ValueError):  # a damaged or unknown piece must not cost the whole record
            return np.array([])

    def _dataset(self, path: str) -> h5py.Dataset | None:
        try:
            found = self.file.get(path)
        except (KeyError, OSError):  # a link that leads nowhere
            return None
        return found if isinstance(found, h5py.Dataset) and _is_own(self.file, found) else None


def open_scan(path: Path) -> h5py.File:
    """
    Raises:
        ScanUnreadable: if it is not there, not HDF5, or cut short.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "does not exist" if not path.exists() else f"is not a complete HDF5 file: {error}"
        raise ScanUnreadable(f"the scan {path.name} {reason}", where=str(path)) from error


def projections(file: h5py.File, path: Path) -> h5py.Dataset:
    """``/exchange/data``: (angles, rows, columns).

    Raises:
        ScanUnreadable: if there are none.
    """
    try:
        data = file.get("/exchange/data")
    except (KeyError, OSError):
        data = None
    if isinstance(data, h5py.Dataset) and not _is_own(file, data):
        raise ScanUnreadable(
            f"the projections of {path.name} lie in another file",
            where=f"{path}:/exchange/data",
            next_step="write them into the scan itself",
        )
    if not isinstance(data, h5py.Dataset) or data.ndim != 3 or 0 in data.shape or data.dtype.kind not in "uif":
        raise ScanUnreadable(
            f"{path.name} has no projections", where=f"{path}:/exchange/data", next_step="check that it is a scan"
        )
    return data


def _is_own(file: h5py.File, found: h5py.Dataset) -> bool:
    """A file from outside must not pull another file of this machine into a record, or into a picture."""
    return not found.external and not found.is_virtual and found.file.filename == file.filename


def _sampled(dataset: h5py.Dataset) -> npt.NDArray[np.generic]:
    if dataset.ndim == 0:
        return np.asarray(dataset[()])
    first = dataset[(slice(None), *(0,) * (dataset.ndim - 1))] if 0 not in dataset.shape else np.array([])
    series: npt.NDArray[np.generic] = np.asarray(first)
    return series.take(np.unique(np.linspace(0, len(series) - 1, min(len(series), SAMPLES)).astype(int)))


def _plain(values: npt.NDArray[np.generic]) -> list[str | int | float | bool]:
    return [kept for value in values.reshape(-1).tolist() if (kept := _scalar(value)) is not None]


def _scalar(value: object) -> str | int | float | bool | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return value.strip("\0 \r\n\t") or None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | bool) else None
