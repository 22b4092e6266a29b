"""How far a reconstruction of a simulated scan is from the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from orchestration.science.errors import ScanMissing, ScanUnreadable
from orchestration.science.stopping import look
from orchestration.science.tomography.simulate import ScanDescription

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Errors of a reconstruction."""

    relative_l2: float
    """Norm of the error over that of the truth, inside the circle, over the slices compared."""
    scale: float
    """What the reconstruction would have to be multiplied with to fit best; 1 when its units are right."""
    center_error_px: float | None
    """Centre used less the true one; None without a report beside the reconstruction."""
    slices: int


def compare(reconstruction: Path, description: ScanDescription, *, most: int = 16) -> Comparison:
    """Compare a folder of TIFFs or an OME-Zarr volume of all rows with the truth, on up to `most` slices."""
    rows = np.unique(np.linspace(0, description.height - 1, min(most, description.height)).astype(np.int64))
    count, read = _open(reconstruction)
    if count != description.height:
        what = f"the reconstruction has {count} slices and the scan {description.height} rows"
        raise ScanUnreadable(what, where=str(reconstruction), next_step="reconstruct all rows, then compare again")
    distance = np.arange(description.width) - (description.width - 1) / 2
    inside = distance[:, None] ** 2 + distance[None, :] ** 2 <= ((description.width - 1) / 2) ** 2
    error = product = square = norm = 0.0
    for row in rows.tolist():
        look()
        truth = description.slice_per_cm(row)[inside].astype(np.float64)
        found = read(row)[inside].astype(np.float64)
        error += float(np.sum((found - truth) ** 2))
        norm += float(np.sum(truth**2))
        product += float(np.sum(found * truth))
        square += float(np.sum(found**2))
    if norm == 0:
        raise ScanUnreadable("the simulated scan is empty: there is nothing to compare", where=str(reconstruction))
    return Comparison(
        relative_l2=float(np.sqrt(error / norm)),
        scale=product / square if square else 0.0,
        center_error_px=_center_error(reconstruction, description),
        slices=len(rows),
    )


def _open(path: Path) -> tuple[int, Callable[[int], Float32]]:
    """The number of slices, and what reads one of them."""
    if not path.exists():
        raise ScanMissing("there is no such reconstruction", where=str(path))
    if path.suffix == ".zarr":
        array = zarr.open_array(path / "0", mode="r")
        return array.shape[0], lambda row: np.asarray(array[row], dtype=np.float32)
    files = sorted(path.glob("*.tiff"))
    return len(files), lambda row: np.asarray(tifffile.imread(files[row]), dtype=np.float32)


def _center_error(reconstruction: Path, description: ScanDescription) -> float | None:
    name = reconstruction.name.removesuffix(".zarr")
    report = reconstruction.with_name(f"{name}.json")
    if not report.is_file():
        return None
    return float(json.loads(report.read_text(encoding="utf-8"))["center"]["column"]) - description.center
