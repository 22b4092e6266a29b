"""What a search index is told about a result: ``metadata.json`` of the portal of beamline 8-ID, and the fits.

A search index takes the type of a field from the first record that has it, and refuses every later one of another type.
So each key is always there and has one type; what is not known, or is not finite, is null, which has no type to an
index, and a list of nothing is empty. Numbers with a unit are floating-point even where they are whole.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import h5py
import numpy as np

from orchestration.science import hdf5
from orchestration.science.errors import ParametersInvalid
from orchestration.science.xpcs.fit import Estimate, Fit, Fits, PowerLaw
from orchestration.science.xpcs.results import DETECTOR, QMAP, Result

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

DISTRIBUTION = "beamline-orchestration"
BLUESKY = "/entry/instrument/bluesky/metadata"
START_TIME = "/entry/start_time"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program that had a part in the result."""

    name: str
    tool_version: str = ""
    execution_time_seconds: float | None = None
    device: str | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Extra:
    """What the flow knows and the file does not. `time_zone` is that of times in the file that have no offset."""

    organization: str | None = None
    facility: str | None = None
    experiment: str | None = None
    cycle: str | None = None
    time_zone: str | None = None
    raw: tuple[str, ...] = ()
    qmap: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Extra:
        """From a JSON file, ``{source_files: {raw: [], qmap: []}, organization, ..., tools: [{name, ...}]}``.

        Raises:
            ParametersInvalid: if it cannot be read, or has keys or types that are not known.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ParametersInvalid(f"the extra metadata cannot be read: {error}", where=str(path)) from error
        try:
            return cls._parse(document)
        except (TypeError, ValueError) as error:
            next_step = "see `Extra` in orchestration/science/xpcs/metadata.py for what may be given"
            raise ParametersInvalid(f"extra metadata: {error}", where=str(path), next_step=next_step) from error

    @classmethod
    def _parse(cls, document: object) -> Extra:
        given = _object(document, "they")
        files = _object(given.pop("source_files", {}), "source_files")
        tools = given.pop("tools", [])
        if not isinstance(tools, list):
            raise TypeError("tools is not a list")
        texts = {key: _string(value, key) for key, value in given.items() if value is not None}
        zone = texts.get("time_zone")
        if zone is not None:
            _zone(zone)
        lists = {key: _strings(files.pop(key, []), f"source_files.{key}") for key in ("raw", "qmap")}
        if files or not texts.keys() <= {"organization", "facility", "experiment", "cycle", "time_zone"}:
            raise ValueError(f"unknown keys among {sorted(files) + sorted(texts)}")
        return cls(**texts, raw=lists["raw"], qmap=lists["qmap"], tools=tuple(map(_tool, tools)))


def describe(
    result: Result, fits: Fits | None, law: PowerLaw | None, extra: Extra, *, seconds: float, now: datetime
) -> dict[str, Json]:
    """The document of ``metadata.json``.

    Args:
        seconds: that fits and pictures took.
        now: with a time zone.

    Raises:
        ScanUnreadable: or one of its kinds, if the file cannot be read any more.
    """
    with hdf5.open_file(result.path) as file, hdf5.reading(result.path):
        recorded = _text(file, START_TIME)
        facts = {section: _facts(file, section) for section in _FACTS}
        digest = file[QMAP].attrs.get("hash")
    found: dict[str, Json] = {
        "name": result.name,
        "result_file": result.path.name,
        "analysis_type": result.analysis_type,
        "start_time": _utc(recorded, extra.time_zone),
        "start_time_recorded": recorded,
        "plot_time": now.astimezone(UTC).isoformat(timespec="seconds"),
        "organization": extra.organization,
        "facility": extra.facility,
        "experiment": extra.experiment,
        "cycle": extra.cycle,
        "source_files": {"raw": list(extra.raw), "qmap": list(extra.qmap)},
        "sample": facts["sample"],
        "acquisition": facts["acquisition"] | _acquisition(result),
        "beam": {"energy_kev": _number(result.geometry.energy)},
        "detector": facts["detector"] | _detector(result),
        "geometry": _geometry(result),
        "q_bins": _bins(result) | {"qmap_hash": _decoded(digest) if digest is not None else None},
        "fits": _fits(result, fits, law),
        "tools": [_tool_document(tool) for tool in (*extra.tools, _this(seconds))],
    }
    return {"project_metadata": found}


def describe_fits(result: Result, fits: Fits, law: PowerLaw | None) -> dict[str, Json]:
    """The document of ``<name>_fits.json``; all of each fit."""
    return {
        "version": 1,
        "result_file": result.path.name,
        "g2": "baseline + contrast exp(-2 (t/tau)^gamma)",
        **_fits(result, fits, law),
    }


def dump(document: dict[str, Json]) -> str:
    """As JSON text; one that had a NaN would be a defect, and is refused."""
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _text(file: h5py.File, where: str) -> str | None:
    """Numbers become text, too: identifiers are written as either."""
    dataset = file.get(where)
    if not isinstance(dataset, h5py.Dataset) or dataset.size != 1:
        return None
    return _decoded(np.ravel(dataset[()])[0] if dataset.shape else dataset[()])


def _decoded(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _float(file: h5py.File, where: str) -> float | None:
    try:
        return _number(float(_text(file, where) or "nan"))
    except ValueError:
        return None


_Reader: TypeAlias = "Callable[[h5py.File, str], str | float | None]"

_FACTS: Mapping[str, Mapping[str, tuple[str, _Reader]]] = {
    "sample": {"name": ("/entry/sample/name", _text)},
    "acquisition": {
        "title": ("/entry/title", _text),
        "identifier": ("/entry/entry_identifier", _text),
        "end_time_recorded": ("/entry/end_time", _text),
        "schema_version": ("/entry/schema_version", _text),
        "beamline": (f"{BLUESKY}/beamline_id", _text),
        "proposal_id": (f"{BLUESKY}/proposal_id", _text),
        "plan_name": (f"{BLUESKY}/plan_name", _text),
        "owner": (f"{BLUESKY}/owner", _text),
        "count_time_s": (f"{DETECTOR}/count_time", _float),
        "incident_monitor": (f"{BLUESKY}/I0", _float),
        "transmitted_monitor": (f"{BLUESKY}/I1", _float),
    },
    "detector": {
        "name": (f"{DETECTOR}/description", _text),
        "x_pixel_size": (f"{DETECTOR}/x_pixel_size", _float),
        "y_pixel_size": (f"{DETECTOR}/y_pixel_size", _float),
    },
}
"""What is taken over from the file as it is, by section and key; nothing else is."""


def _facts(file: h5py.File, section: str) -> dict[str, Json]:
    return {key: read(file, where) for key, (where, read) in _FACTS[section].items()}


def _acquisition(result: Result) -> dict[str, Json]:
    frames = result.intensity.shape[1]
    return {
        "frame_time_s": float(result.frame_time),
        "stride_frames": result.stride,
        "average_frames": result.average,
        "processed_frames": frames,
        "duration_s": float(frames * result.frame_seconds),
        "mean_counts": _number(float(np.mean(result.intensity[1]))),
    }


def _detector(result: Result) -> dict[str, Json]:
    rows, columns = result.mask.shape
    return {"rows": rows, "columns": columns, "valid_fraction": float(result.mask.mean())}


def _geometry(result: Result) -> dict[str, Json]:
    known: dict[str, Json] = {key: _number(value) for key, value in asdict(result.geometry).items() if key != "energy"}
    return known | {"q_per_pixel": _number(result.geometry.q_per_pixel)}


def _bins(result: Result) -> dict[str, Json]:
    q = result.dynamic.q
    return {
        "map_names": list(result.dynamic.names),
        "map_units": list(result.dynamic.units),
        "dynamic": len(result.dynamic),
        "static": len(result.static),
        "dynamic_grid": list(result.dynamic.grid),
        "static_grid": list(result.static.grid),
        "q_min": None if q is None else _number(float(q.min())),
        "q_max": None if q is None else _number(float(q.max())),
    }


def _fits(result: Result, fits: Fits | None, law: PowerLaw | None) -> dict[str, Json]:
    bins = () if fits is None else fits.bins
    return {
        "model": None if fits is None else fits.model,
        "good": sum(fit.good for fit in bins),
        "bins": [_fit(result, index, fit) for index, fit in enumerate(bins)],
        "power_law": _law(law),
    }


def _fit(result: Result, index: int, fit: Fit) -> dict[str, Json]:
    bins = result.dynamic
    jackknife = result.multitau is not None and bool(result.multitau.jackknifed[index])
    return {
        "bin": int(bins.number[index]),
        "pixels": int(bins.pixels[index]),
        "label": bins.label(index),
        "q": None if bins.q is None else _number(float(bins.q[index])),
        "phi": None if bins.phi is None else _number(float(bins.phi[index])),
        "quality": fit.quality.value,
        "errors_of_g2": "jackknife" if jackknife else "spread over pixels",
        "lags": fit.lags,
        **_estimate("tau_s", fit.tau),
        **_estimate("contrast", fit.contrast),
        **_estimate("baseline", fit.baseline),
        **_estimate("gamma", fit.gamma),
        "reduced_chi2": _number(fit.chi2),
    }


def _law(law: PowerLaw | None) -> dict[str, Json]:
    """τ = amplitude q^-exponent; `diffusion` is null where the exponent is not 2."""
    nothing = Estimate(math.nan, math.nan)
    return {
        **_estimate("exponent", law.exponent if law else nothing),
        **_estimate("amplitude", law.amplitude if law else nothing),
        **_estimate("diffusion", law.diffusion if law and law.diffusive else nothing),
        "reduced_chi2": _number(law.chi2) if law else None,
        "bins": law.bins if law else 0,
    }


def _estimate(key: str, estimate: Estimate) -> dict[str, Json]:
    return {key: _number(estimate.value), f"{key}_error": _number(estimate.error)}


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _utc(recorded: str | None, zone: str | None) -> str | None:
    """None if that is no time of ISO 8601, or has no offset and the time zone is not known: it would be a guess."""
    try:
        time = datetime.fromisoformat((recorded or "").strip())
    except ValueError:
        return None
    if time.tzinfo is None:
        if zone is None:
            return None
        time = time.replace(tzinfo=_zone(zone))
    return time.astimezone(UTC).isoformat(timespec="seconds")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}") from error


def _this(seconds: float) -> Tool:
    return Tool(
        name="orchestration.science xpcs plot",
        tool_version=_version(),
        execution_time_seconds=round(seconds, 3),
        device=f"cpu, {platform.machine()}",
        source=DISTRIBUTION,
    )


def _version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _tool(document: object) -> Tool:
    given = _object(document, "a tool")
    seconds = given.pop("execution_time_seconds", None)
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
        raise TypeError("execution_time_seconds of a tool is not a number")
    texts = {key: _string(value, key) for key, value in given.items() if value is not None}
    if "name" not in texts or not texts.keys() <= {"name", "tool_version", "device", "source"}:
        raise ValueError(f"a tool needs a name, and may have no others of {sorted(texts)}")
    return Tool(**texts, execution_time_seconds=_number(seconds))


def _tool_document(tool: Tool) -> dict[str, Json]:
    return dict(asdict(tool))


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} must be one JSON object")
    return dict(value)


def _string(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a text")
    return value


def _strings(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{key} is not a list")
    return tuple(_string(item, key) for item in value)
