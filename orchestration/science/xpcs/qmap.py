"""Maps of q-bins over the detector, as pySimpleMask writes them, with every rule that the correlation relies on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import QmapInvalid

GROUP = "/qmap"

Map = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Qmap:
    """Bins are numbered from 1; 0 is in none. Static bins divide dynamic bins. All maps are (rows, columns)."""

    path: Path
    mask: NDArray[np.bool_]
    """The pixels that are good."""
    blemish: NDArray[np.float32]
    """What the mean scattering is multiplied by."""
    dynamic: Map
    static: Map
    digest: str
    """SHA-256 of the file, in hexadecimal."""
    hash: str
    """What the program that made the qmap calls it by; empty if it does not."""

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.mask.shape
        return rows, columns

    @property
    def dynamic_bins(self) -> int:
        return int(self.dynamic.max())

    @property
    def static_bins(self) -> NDArray[np.int64]:
        """The numbers of those static bins that hold a pixel, ascending."""
        found: NDArray[np.int64] = np.unique(self.static[self.static > 0]).astype(np.int64)
        return found

    @property
    def valid_fraction(self) -> float:
        return float(self.mask.mean())

    def demand_fits(self, rows: int, columns: int, *, raw: Path) -> None:
        """Raise QmapInvalid if it is not of a detector of this shape."""
        if self.shape != (rows, columns):
            what = f"the qmap is for {self.shape[0]} x {self.shape[1]} pixels, the frames have {rows} x {columns}"
            next_step = f"give the qmap of the detector that took {raw.name}"
            raise QmapInvalid(what, where=str(self.path), next_step=next_step)


def read_qmap(path: Path) -> Qmap:
    """A qmap from its file.

    Raises:
        QmapInvalid: if the file, or one of its maps, breaks a rule; with wrong maps g2 would be wrong without a sign.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with h5py.File(path, "r") as file:
            group = _group(file, path)
            mask = _map(group, "mask", path) != 0
            blemish = _map(group, "blemish", path).astype(np.float32) if "blemish" in group else mask
            found = Qmap(
                path=path,
                mask=mask,
                blemish=np.asarray(blemish, dtype=np.float32),
                dynamic=_bins(group, "dynamic_roi_map", path),
                static=_bins(group, "static_roi_map", path),
                digest=digest,
                hash=_text(group.attrs.get("hash", "")),
            )
    except OSError as error:
        raise QmapInvalid(f"the qmap cannot be read: {error.strerror or error}", where=str(path)) from error
    _demand_rules(found)
    return found


def _group(file: h5py.File, path: Path) -> h5py.Group:
    group = file.get(GROUP)
    if not isinstance(group, h5py.Group):
        raise QmapInvalid(f"there is no group {GROUP}", where=str(path), next_step="give a qmap of pySimpleMask")
    return group


def _map(group: h5py.Group, name: str, path: Path) -> NDArray[np.generic]:
    dataset = group.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise QmapInvalid(f"there is no {GROUP}/{name}", where=str(path))
    if dataset.ndim != 2 or not dataset.size or dataset.dtype.kind not in "iubf":
        what = f"{GROUP}/{name} has shape {dataset.shape} and type {dataset.dtype}, not (rows, columns) of numbers"
        raise QmapInvalid(what, where=str(path))
    values: NDArray[np.generic] = dataset[()]
    if dataset.dtype.kind == "f" and not np.isfinite(values).all():
        raise QmapInvalid(f"{GROUP}/{name} holds values that are not finite", where=str(path))
    return values


def _bins(group: h5py.Group, name: str, path: Path) -> Map:
    values = _map(group, name, path)
    if values.dtype.kind not in "iu":
        raise QmapInvalid(f"{GROUP}/{name} holds {values.dtype}, not whole numbers", where=str(path))
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > values.size:
        what = f"{GROUP}/{name} has bins from {low} to {high}, not from 0 to at most one for each pixel"
        raise QmapInvalid(what, where=str(path))
    return values.astype(np.int32)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _demand_rules(qmap: Qmap) -> None:
    """Each rule names what would come out wrong, and one pixel or bin that breaks it."""
    for name, values in (("static", qmap.static), ("dynamic", qmap.dynamic), ("blemish", qmap.blemish)):
        if values.shape != qmap.shape:
            _refuse(qmap, f"the {name} map has shape {values.shape}, the mask {qmap.shape}")
    for name, bins in (("dynamic", qmap.dynamic), ("static", qmap.static)):
        if not bins.any():
            _refuse(qmap, f"the {name} map has no bin")
        _demand_pixel(qmap, (bins > 0) & ~qmap.mask, f"lies in a {name} bin, and outside the mask")
    _demand_pixel(qmap, (qmap.dynamic > 0) & (qmap.static == 0), "lies in a dynamic bin, and in no static one")
    _demand_one_parent(qmap)
    held = np.bincount(qmap.dynamic.ravel(), minlength=qmap.dynamic_bins + 1)
    if not held[1:].all():
        _refuse(qmap, f"dynamic bin {int(np.argmin(held[1:] > 0)) + 1} of {qmap.dynamic_bins} holds no pixel")


def _demand_pixel(qmap: Qmap, broken: NDArray[np.bool_], what: str) -> None:
    if broken.any():
        row, column = divmod(int(np.argmax(broken)), qmap.shape[1])
        _refuse(qmap, f"pixel (row {row}, column {column}) {what}, like {int(broken.sum()) - 1} others")


def _demand_one_parent(qmap: Qmap) -> None:
    """Each static bin lies in exactly one dynamic bin."""
    inside = qmap.static > 0
    static, dynamic = qmap.static[inside], qmap.dynamic[inside]
    size = int(static.max()) + 1
    lowest = np.full(size, np.iinfo(np.int32).max, dtype=np.int32)
    highest = np.full(size, -1, dtype=np.int32)
    np.minimum.at(lowest, static, dynamic)
    np.maximum.at(highest, static, dynamic)
    held = highest >= 0
    for broken, what in (
        (held & (lowest != highest), "lies in more than one dynamic bin"),
        (held & (highest == 0), "lies in no dynamic bin"),
    ):
        if broken.any():
            number = int(np.argmax(broken))
            where = f", {lowest[number]} and {highest[number]}" if highest[number] else ""
            _refuse(qmap, f"static bin {number} {what}{where}")


def _refuse(qmap: Qmap, what: str) -> None:
    raise QmapInvalid(what, where=str(qmap.path))
