"""Scans of the phantom as a detector would write them: Data Exchange HDF5 with the metadata of ALS beamline 8.3.2."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ParametersInvalid, ScanUnreadable
from orchestration.science.stopping import look
from orchestration.science.tomography import metadata, phantom

Frame = NDArray[np.uint16]
Float64 = NDArray[np.floating]
Kind = Literal["projection", "flat", "dark"]

DESCRIPTION = "simulated_scan"
"""Root attribute of a simulated file: its description as JSON, for comparing a reconstruction with the truth."""


@dataclass(frozen=True, kw_only=True)
class ScanDescription:
    """All that determines a simulated scan, to the last count."""

    width: int = 256
    height: int = 32
    angles: int = 360
    angle_range: float = 180.0
    """180 or 360 degrees; the last angle is one step before its end."""
    center_offset: float = 0.0
    """Of the rotation axis from the middle of the detector, in pixels."""
    photons: float = 0.0
    """In the open beam, per pixel and frame; 0 leaves out the noise."""
    rings: bool = False
    zingers: bool = False
    seed: int = 0
    pixel_size_mm: float = 0.00325
    peak_absorption: float = 1.5
    """Largest line integral: minus the logarithm of the lowest transmission."""
    flats: int = 20
    darks: int = 10
    sample: str = "shepp logan"
    proposal: str = "ALS-00000"
    experimenter: str = "Ada Beamline"
    email: str = "ada@example.com"

    def __post_init__(self) -> None:
        limits = (("width", 16), ("height", 1), ("angles", 2), ("flats", 1), ("darks", 1))
        for name, least in limits:
            if getattr(self, name) < least:
                raise ParametersInvalid(f"{name} is {getattr(self, name)}, less than {least}", where="simulated scan")
        if self.pixel_size_mm <= 0 or self.peak_absorption <= 0 or self.photons < 0:
            what = "pixel size and peak absorption must be over 0, photons not below"
            raise ParametersInvalid(what, where="simulated scan")
        if abs(self.center_offset) > self.width / 4:
            what = f"the axis is {self.center_offset} pixels off the middle, over a quarter of the width"
            raise ParametersInvalid(what, where="simulated scan")

    @property
    def center(self) -> float:
        return (self.width - 1) / 2 + self.center_offset

    @property
    def theta(self) -> Float64:
        """In degrees."""
        return np.arange(self.angles) * (self.angle_range / self.angles)

    @property
    def heights(self) -> Float64:
        """z of the rows, in half-widths; row 0 is the top."""
        return ((self.height - 1) / 2 - np.arange(self.height)) / (self.width / 2)

    @property
    def density_per_cm(self) -> float:
        """1/cm of the densest body."""
        half_width_cm = self.width / 2 * self.pixel_size_mm / 10
        return self.peak_absorption / (_LONGEST * half_width_cm)

    def slice_per_cm(self, row: int) -> phantom.Float32:
        """The truth of one row, (width, width), in 1/cm."""
        bodies = phantom.SHEPP_LOGAN
        size = self.width
        density = phantom.slice_density(bodies, size=size, height=float(self.heights[row]), half_width=size / 2)
        return np.asarray(density * self.density_per_cm, dtype=np.float32)


_LONGEST = 0.5555
"""The largest line integral of the phantom of unit density, in half-widths."""
_OPEN_BEAM = 40_000.0
_DARK = 100.0


@dataclass(frozen=True, kw_only=True)
class SimulatedFrame:
    """One exposure, in the order of acquisition: darks, flats, projections."""

    kind: Kind
    index: int
    counts: Frame


class _Detector:
    """Beam, pixel gains and defects of one simulated run."""

    def __init__(self, description: ScanDescription) -> None:
        self._description = description
        rng = np.random.default_rng([description.seed, 0])
        shape = (description.height, description.width)
        x = np.linspace(-1, 1, description.width)[None, :]
        z = np.linspace(-1, 1, description.height)[:, None]
        profile = np.exp(-0.3 * x**2 - 0.4 * z**2)
        self.beam = _OPEN_BEAM * profile * (1 + 0.02 * rng.standard_normal(shape))
        self.dark = _DARK + 5.0 * rng.standard_normal(shape)
        self.drift = np.ones(shape)
        if description.rings:
            # Gains that differ between flats and projections: what flat fields do not take out and rings come from.
            bad = rng.random(shape) < 0.04
            self.drift += bad * rng.normal(0.0, 0.03, shape)
            columns = rng.random(description.width) < 0.02
            self.drift += columns[None, :] * rng.normal(0.0, 0.02, description.width)[None, :]

    def expose(self, transmission: Float64 | float, *, stream: tuple[int, int], beam: bool = True) -> Frame:
        description = self._description
        rng = np.random.default_rng([description.seed, *stream])
        signal: Float64 = self.beam * transmission if beam else np.zeros_like(self.beam)
        if description.photons > 0:
            per_photon = _OPEN_BEAM / description.photons
            signal = rng.poisson(signal / per_photon) * per_photon
            signal = signal + rng.normal(0.0, 3.0, signal.shape)
        if description.zingers:
            hits = rng.random(signal.shape) < 2e-4
            signal = signal + hits * rng.uniform(0.3, 0.6, signal.shape) * _OPEN_BEAM
        return np.clip(np.rint(signal + self.dark), 0, 65535).astype(np.uint16)


def frames(description: ScanDescription) -> Iterator[SimulatedFrame]:
    """Darks, flats, then projections, each computed when it is asked for."""
    detector = _Detector(description)
    for index in range(description.darks):
        yield SimulatedFrame(kind="dark", index=index, counts=detector.expose(1.0, stream=(1, index), beam=False))
    for index in range(description.flats):
        yield SimulatedFrame(kind="flat", index=index, counts=detector.expose(1.0, stream=(2, index)))
    edges = (np.arange(description.width + 1) - 0.5 - description.center) / (description.width / 2)
    scale = description.density_per_cm * description.width / 2 * description.pixel_size_mm / 10
    for index, angle in enumerate(description.theta):
        integrals = phantom.line_integrals(
            phantom.SHEPP_LOGAN, angle=float(angle), edges=edges, heights=description.heights
        )
        transmission = np.exp(-scale * integrals) * detector.drift
        yield SimulatedFrame(kind="projection", index=index, counts=detector.expose(transmission, stream=(3, index)))


class ScanWriter:
    """An HDF5 file that grows frame by frame, readable meanwhile where it is in SWMR mode."""

    def __init__(self, path: Path, description: ScanDescription, *, swmr: bool) -> None:
        self._file = h5py.File(path, "w", libver="latest")
        exchange = self._file.create_group("exchange")
        self._frames = {kind: _growing(exchange, name, description) for kind, name in _NAMES.items()}
        exchange["data"].attrs["axes"] = "theta:y:x"
        self._theta = exchange.create_dataset("theta", data=description.theta)
        self._theta.attrs["units"] = "deg"
        metadata.write(self._file, metadata.Facts.of(description, file_name=path.name))
        self._file.attrs[DESCRIPTION] = json.dumps(dataclasses.asdict(description))
        if swmr:
            self._file.swmr_mode = True

    def append(self, frame: SimulatedFrame) -> None:
        """Add a frame and make it visible to readers."""
        dataset = self._frames[frame.kind]
        dataset.resize(dataset.shape[0] + 1, axis=0)
        dataset[-1] = frame.counts
        dataset.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_NAMES: dict[Kind, str] = {"projection": "data", "flat": "data_white", "dark": "data_dark"}


def _growing(group: h5py.Group, name: str, description: ScanDescription) -> h5py.Dataset:
    shape = (description.height, description.width)
    return group.create_dataset(name, (0, *shape), maxshape=(None, *shape), chunks=(1, *shape), dtype=np.uint16)


def create_file(path: Path, description: ScanDescription, *, swmr: bool = True) -> ScanWriter:
    """Start a scan file; the caller appends frames and closes it."""
    return ScanWriter(path, description, swmr=swmr)


def write_scan(path: Path, description: ScanDescription) -> None:
    """Simulate a whole scan; the file appears under its name only once it is complete."""
    partial = path.with_name(f".{path.name[:200]}.partial")
    try:
        with create_file(partial, description, swmr=False) as writer:
            for frame in frames(description):
                look()
                writer.append(frame)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_description(path: Path) -> ScanDescription:
    """The description stored in a simulated file.

    Raises:
        ScanUnreadable: when the file is not a simulated scan.
    """
    try:
        with h5py.File(path, "r") as file:
            stored = file.attrs.get(DESCRIPTION)
    except OSError as error:
        raise ScanUnreadable(f"the scan cannot be opened: {error}", where=str(path)) from error
    if stored is None:
        raise ScanUnreadable(
            "the scan is not a simulated one: the truth is not known",
            where=str(path),
            next_step="give a simulated scan",
        )
    return ScanDescription(**json.loads(stored))
