"""What a scan of beamline 8.3.2 says about itself (Data Exchange HDF5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from orchestration.flows.hdf5 import Reader, open_scan, projections
from orchestration.ledger.service import Document, Json

ZONE = "America/Los_Angeles"
"""In which the beamline's computers write times that name no zone."""

_SAMPLE = "/measurement/sample"
_INSTRUMENT = "/measurement/instrument"
_ACQUISITION = "/process/acquisition"

SCIENTIFIC_KEYS = (
    *(
        f"{_INSTRUMENT}/{name}"
        for name in (
            "attenuator/setup/filter_y",
            "camera_motor_stack/setup/tilt_motor",
            "detection_system/objective/camera_objective",
            "detection_system/scintillator/scintillator_type",
            "detector/binning_x",
            "detector/binning_y",
            "detector/dark_field_value",
            "detector/delay_time",
            "detector/dimension_x",
            "detector/dimension_y",
            "detector/model",
            "detector/pixel_size",
            "detector/temperature",
            "monochromator/setup/Z2",
            "slits/setup/hslits_center",
            "slits/setup/hslits_size",
            "slits/setup/vslits_Lead_Flag",
            "source/source_name",
        )
    ),
    *(
        f"{_ACQUISITION}/{name}"
        for name in (
            "dark_fields/dark_num_avg_of",
            "dark_fields/num_dark_fields",
            "flat_fields/i0_move_x",
            "flat_fields/i0_move_y",
            "flat_fields/i0cycle",
            "flat_fields/num_flat_fields",
            "flat_fields/usebrightexpose",
            "mosaic/tile_xmovedist",
            "mosaic/tile_xnumimg",
            "mosaic/tile_xorig",
            "mosaic/tile_xoverlap",
            "mosaic/tile_ymovedist",
            "mosaic/tile_ynumimg",
            "mosaic/tile_yorig",
            "mosaic/tile_yoverlap",
            "name",
            "rotation/blur_limit",
            "rotation/multiRev",
            "rotation/nhalfCir",
            "rotation/num_angles",
            "rotation/range",
        )
    ),
)
"""Settings of the scan, catalogued under their full HDF5 path."""

SERIES_KEYS = tuple(
    f"{_INSTRUMENT}/{name}"
    for name in (
        "sample_motor_stack/setup/axis1pos",
        "sample_motor_stack/setup/axis2pos",
        "sample_motor_stack/setup/sample_x",
        "sample_motor_stack/setup/axis5pos",
        "camera_motor_stack/setup/camera_elevation",
        "source/current",
        "camera_motor_stack/setup/camera_distance",
        "source/beam_intensity_incident",
        "monochromator/energy",
        "detector/exposure_time",
        "time_stamp",
        "monochromator/setup/turret2",
        "monochromator/setup/turret1",
    )
)
"""What was read back during the scan; some ten values of each are catalogued under ``data_sample``."""

KNOWN_UNITS = {
    f"{_INSTRUMENT}/detector/pixel_size": "mm",
    f"{_INSTRUMENT}/monochromator/energy": "eV",
    f"{_ACQUISITION}/rotation/range": "deg",
}
"""Where the writer notes none; a unit that the file does name goes before these."""

_TIMES = (f"{_ACQUISITION}/start_date", f"{_INSTRUMENT}/time_stamp")
_EARLIEST, _LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")


@dataclass(frozen=True, kw_only=True)
class ScanMetadata:
    """Texts are empty where the file has none."""

    file_name: str
    size: int
    """Bytes of the file."""
    written_at: datetime
    """When the file was last changed."""
    taken_at: datetime
    """The file's own time stamp, or else `written_at`."""
    shape: tuple[int, int, int]
    """Projections, rows, columns."""
    title: str
    """The name that acquisition gave, without suffix; that of the file where it gave none."""
    instrument: str
    beamline: str
    investigator: str
    experiment_lead: str
    experimenter: str
    email: str
    proposal: str
    scientific: Document
    """The catalogue's scientific metadata: settings by HDF5 path, ``data_sample``, and ``missing``."""
    missing: tuple[str, ...]
    """Paths that this beamline's files should have and this one has not."""

    @property
    def words(self) -> tuple[str, ...]:
        """What people search for: the parts of the title, in lower case, each once."""
        return tuple(dict.fromkeys(word for word in re.split(r"[\W_]+", self.title.lower()) if word))


def read_metadata(path: Path) -> ScanMetadata:
    """Everything that the catalogue shows of a scan. A key that the file lacks is noted, not an error.

    Raises:
        ScanUnreadable: if it is not HDF5, or has no projections.
    """
    with open_scan(path) as file:
        stat = path.stat()
        shape = projections(file, path).shape
        reader = Reader(file)
        written_at = datetime.fromtimestamp(stat.st_mtime, tz=UTC)
        title = reader.text(f"{_SAMPLE}/file_name")
        texts = {
            "instrument": reader.text(f"{_INSTRUMENT}/instrument_name"),
            "beamline": reader.text(f"{_SAMPLE}/experiment/beamline"),
            "investigator": reader.text(f"{_SAMPLE}/experiment/pi"),
            "experiment_lead": reader.text(f"{_SAMPLE}/experiment/experiment_lead"),
            "experimenter": reader.text(f"{_SAMPLE}/experimenter/name"),
            "proposal": reader.text(f"{_SAMPLE}/experiment/proposal"),
        }
        email = _email(reader.text(f"{_SAMPLE}/experimenter/email"))
        scientific = _scientific(reader)
        return ScanMetadata(
            file_name=path.name,
            size=stat.st_size,
            written_at=written_at,
            taken_at=_taken_at(Reader(file)) or written_at,
            shape=(shape[0], shape[1], shape[2]),
            title=_stem(title) or path.stem,
            email=email,
            scientific=scientific | ({"missing": [*reader.missing]} if reader.missing else {}),
            missing=tuple(reader.missing),
            **texts,
        )


def _scientific(reader: Reader) -> Document:
    """NaN, nulls and what cannot be read are left out: the catalogue cannot take them."""
    settings = {path: _with_unit(reader.value(path), _unit(reader, path)) for path in SCIENTIFIC_KEYS}
    series = {path: reader.series(path) for path in SERIES_KEYS}
    # Beside the samples, not with them: the server converts a value that has a unit, and lists it reads as ranges.
    units: Document = {path: unit for path in SERIES_KEYS if series[path] and (unit := _unit(reader, path))}
    samples: Document = {path: [*values] for path, values in series.items() if values}
    found: Document = {path: value for path, value in settings.items() if value is not None}
    return found | {"data_sample": samples} | ({"data_sample_units": units} if units else {})


def _with_unit(value: Json, unit: str) -> Json:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"value": value, "unit": unit} if is_number and unit else value


def _unit(reader: Reader, path: str) -> str:
    return reader.unit(path) or KNOWN_UNITS.get(path, "")


def _taken_at(reader: Reader) -> datetime | None:
    for path in _TIMES:
        series = reader.series(path)
        moment = _moment(series[0]) if series else None
        if moment is not None and _EARLIEST < moment < _LATEST:
            return moment
    return None


def _moment(stamp: str | float) -> datetime | None:
    """From ISO 8601, or from seconds or milliseconds since 1970."""
    try:
        if isinstance(stamp, str):
            return _in_zone(datetime.fromisoformat(stamp))
        return datetime.fromtimestamp(stamp / 1000 if stamp > 1e11 else stamp, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _in_zone(moment: datetime) -> datetime:
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(ZONE))).astimezone(UTC)


def _email(text: str) -> str:
    """The first address in a text such as ``'A. User' <a.user@lab.gov>,``."""
    found = _EMAIL.search(text)
    return found.group() if found else ""


def _stem(name: str) -> str:
    return Path(name).stem if name.lower().endswith((".h5", ".hdf5", ".hdf", ".nxs")) else Path(name).name
