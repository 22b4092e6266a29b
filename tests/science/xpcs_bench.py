"""Small measurements, correlated by the command line, beside what the reference makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from xpcs_reference import Float, Index

from orchestration.science.xpcs.correlate import Request, correlate
from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.parameters import Parameters
from orchestration.science.xpcs.simulate import RawFormat, write_metadata, write_qmap, write_raw


@dataclass(frozen=True)
class Bench:
    """One measurement in a folder: frames (a.h5 or of another format), metadata, qmap."""

    folder: Path
    raw: Path
    frames: NDArray[np.generic]
    """(frames, rows, columns)"""

    @property
    def qmap(self) -> Path:
        return self.folder / "qmap.hdf"

    def correlate(self, parameters: Parameters | None = None, **more: Any) -> Outcome:
        parameters = parameters or Parameters()
        request = Request(raw=self.raw, qmap=self.qmap, out=self.folder / "out", parameters=parameters, **more)
        return Outcome.of(correlate(request).path)

    def maps(self) -> Maps:
        with h5py.File(self.qmap, "r") as file:
            group = file["qmap"]
            return Maps(
                dynamic=group["dynamic_roi_map"][()].astype(np.int64).ravel(),
                static=group["static_roi_map"][()].astype(np.int64).ravel(),
                mask=group["mask"][()].ravel() != 0,
                blemish=group["blemish"][()].astype(np.float64).ravel(),
            )

    def chosen(self, selection: Selection, *, normalised: NDArray[np.bool_] | None = None) -> Float:
        """(frames, pixels): those selected, averaged, and divided by their mean over some pixels."""
        found = selection.of(len(self.frames))
        every = self.frames[found.first : found.stop : found.stride].astype(np.float64)
        mean: Float = every.reshape(found.count, found.average, -1).mean(axis=1)
        return mean if normalised is None else mean / mean[:, normalised].mean(axis=1)[:, None]


@dataclass(frozen=True)
class Maps:
    dynamic: Index
    static: Index
    mask: NDArray[np.bool_]
    blemish: Float


@dataclass(frozen=True)
class Outcome:
    """A result file, read whole."""

    path: Path
    values: dict[str, Any] = field(repr=False)
    receipt: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, path: Path) -> Outcome:
        values: dict[str, Any] = {}
        with h5py.File(path, "r") as file:
            file["xpcs"].visititems(
                lambda name, item: values.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        return cls(path, values, json.loads(path.with_suffix(".json").read_text()))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def make(
    folder: Path,
    description: MovieDescription,
    *,
    raw_format: RawFormat = "nexus",
    name: str = "a.h5",
    blemishes: float = 0.001,
    beamstop: float = 4.0,
    **qmap: Any,
) -> Bench:
    """A simulated measurement."""
    write_raw(folder / name, description, raw_format)
    write_metadata(folder / "a_metadata.hdf", description)
    write_qmap(folder / "qmap.hdf", description, blemishes=blemishes, beamstop=beamstop, **qmap)
    frames: NDArray[np.generic] = np.empty(0)
    if raw_format == "nexus":
        with h5py.File(folder / name, "r") as file:
            frames = file["entry/data/data"][()]
    return Bench(folder, folder / name, frames)


def correlating(bench: Bench, *more: str | Path) -> tuple[str | Path, ...]:
    return ("correlate", "-r", bench.raw, "-q", bench.qmap, "-o", bench.folder / "out", *more)


def left(bench: Bench) -> list[str]:
    folder = bench.folder / "out"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
