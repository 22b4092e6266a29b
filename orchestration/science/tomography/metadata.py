"""The metadata that acquisition at beamline 8.3.2 stores beside the frames, by full HDF5 path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import h5py
import numpy as np

Value = str | int | float | np.ndarray[tuple[int], np.dtype[np.float64]]

UNITS: Mapping[str, str] = {
    "/measurement/instrument/detector/pixel_size": "mm",
    "/measurement/instrument/detector/exposure_time": "s",
    "/measurement/instrument/detector/temperature": "C",
    "/measurement/instrument/monochromator/energy": "eV",
    "/measurement/instrument/source/current": "mA",
    "/measurement/instrument/camera_motor_stack/setup/camera_distance": "mm",
    "/process/acquisition/rotation/range": "deg",
    "/process/acquisition/rotation/rotation_start": "deg",
    "/process/acquisition/rotation/rotation_step": "deg",
}


class Description(Protocol):
    """What of a simulated scan its metadata tell."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def angles(self) -> int: ...
    @property
    def angle_range(self) -> float: ...
    @property
    def pixel_size_mm(self) -> float: ...
    @property
    def flats(self) -> int: ...
    @property
    def darks(self) -> int: ...
    @property
    def sample(self) -> str: ...
    @property
    def proposal(self) -> str: ...
    @property
    def experimenter(self) -> str: ...
    @property
    def email(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Values by path."""

    values: Mapping[str, Value]

    @classmethod
    def of(cls, scan: Description, *, file_name: str) -> Facts:
        return cls(values=_sample(scan, file_name) | _instrument(scan) | _acquisition(scan))


def write(file: h5py.File, facts: Facts) -> None:
    """Store each value as a dataset of its own, with its unit."""
    for path, value in facts.values.items():
        dataset = file.create_dataset(path, data=value)
        if path in UNITS:
            dataset.attrs["units"] = UNITS[path]


def _under(prefix: str, values: Mapping[str, Value]) -> dict[str, Value]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def _sample(scan: Description, file_name: str) -> dict[str, Value]:
    name = file_name.removesuffix(".h5")
    return _under(
        "/measurement/sample",
        {
            "file_name": name,
            "name": scan.sample,
            "experiment/pi": scan.experimenter,
            "experiment/proposal": scan.proposal,
            "experiment/title": f"Microtomography of {scan.sample}",
            "experimenter/name": scan.experimenter,
            "experimenter/email": scan.email,
        },
    )


def _series(scan: Description, start: float, drift: float) -> Value:
    return np.linspace(start, start + drift, scan.angles)


def _instrument(scan: Description) -> dict[str, Value]:
    return _under(
        "/measurement/instrument",
        {
            "instrument_name": "bl832",
            "source/source_name": "ALS",
            "source/current": _series(scan, 500.2, -0.4),
            "source/beam_intensity_incident": _series(scan, 1.0, -0.001),
            "attenuator/setup/filter_y": 12.5,
            "camera_motor_stack/setup/tilt_motor": -0.31,
            "camera_motor_stack/setup/camera_elevation": 4.2,
            "camera_motor_stack/setup/camera_distance": np.array([45.0, 45.0]),
            "detection_system/objective/camera_objective": "10x",
            "detection_system/scintillator/scintillator_type": "LuAG:Ce 50 um",
            "detection_system/turret1": 1.0,
            "detection_system/turret2": 2.0,
            "detector/binning_x": 1,
            "detector/binning_y": 1,
            "detector/dark_field_value": 100.0,
            "detector/delay_time": 0.0,
            "detector/dimension_x": scan.width,
            "detector/dimension_y": scan.height,
            "detector/exposure_time": _series(scan, 0.05, 0.0),
            "detector/model": "PCO.edge 5.5",
            "detector/pixel_size": scan.pixel_size_mm,
            "detector/temperature": 5.0,
            "monochromator/energy": 25000.0,
            "monochromator/setup/Z2": 21.7,
            "sample_motor_stack/setup/axis1pos": _series(scan, 0.0, scan.angle_range),
            "sample_motor_stack/setup/axis2pos": _series(scan, 7.1, 0.0),
            "sample_motor_stack/setup/axis5pos": _series(scan, 1.4, 0.0),
            "sample_motor_stack/setup/sample_x": _series(scan, 0.02, 0.0),
            "slits/setup/hslits_center": 0.0,
            "slits/setup/hslits_size": 20.0,
            "slits/setup/vslits_Lead_Flag": 13.0,
        },
    )


def _acquisition(scan: Description) -> dict[str, Value]:
    step = scan.angle_range / scan.angles
    return _under(
        "/process/acquisition",
        {
            "name": "tomography",
            "time_stamp": _series(scan, 0.0, 0.06 * scan.angles),
            "dark_fields/dark_num_avg_of": 1,
            "dark_fields/num_dark_fields": scan.darks,
            "flat_fields/i0_move_x": 12.0,
            "flat_fields/i0_move_y": 0.0,
            "flat_fields/i0cycle": 0,
            "flat_fields/num_flat_fields": scan.flats,
            "flat_fields/usebrightexpose": 0,
            "mosaic/tile_xmovedist": 0.0,
            "mosaic/tile_xnumimg": 1,
            "mosaic/tile_xorig": 0.0,
            "mosaic/tile_xoverlap": 0.0,
            "mosaic/tile_ymovedist": 0.0,
            "mosaic/tile_ynumimg": 1,
            "mosaic/tile_yorig": 0.0,
            "mosaic/tile_yoverlap": 0.0,
            "rotation/blur_limit": 0.0,
            "rotation/multiRev": 0,
            "rotation/nhalfCir": round(scan.angle_range / 180.0),
            "rotation/num_angles": scan.angles,
            "rotation/range": scan.angle_range,
            "rotation/rotation_start": 0.0,
            "rotation/rotation_step": step,
        },
    )
