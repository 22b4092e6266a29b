"""What a search index is told about a result: ``metadata.json`` of the portal of beamline 8-ID, and the fits.

A search index takes the type of a field from the first record that has it, and refuses every later one of another type.
So each key is always there and has one type; what is not known, or is not finite, is null, which has no type to an
index, and a list of nothing is empty. Numbers with a unit are floating-point even where they are whole.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeAlias

import h5py
import numpy as np

from orchestration.science import hdf5
from orchestration.science.xpcs.documents import Document, number
from orchestration.science.xpcs.extra import Extra, Tool, named_zone
from orchestration.science.xpcs.fit import Estimate, Fit, Fits
from orchestration.science.xpcs.power_law import PowerLaw
from orchestration.science.xpcs.results import DETECTOR, QMAP, Result

DISTRIBUTION = "beamline-orchestration"
BLUESKY = "/entry/instrument/bluesky/metadata"
START_TIME = "/entry/start_time"


def describe(
    result: Result, fits: Fits | None, law: PowerLaw | None, extra: Extra, *, seconds: float, now: datetime
) -> Document:
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
    found: Document = {
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
        "beam": {"energy_kev": number(result.geometry.energy)},
        "detector": facts["detector"] | _detector(result),
        "geometry": _geometry(result),
        "q_bins": _bins(result) | {"qmap_hash": _decoded(digest) if digest is not None else None},
        "fits": _fits(result, fits, law),
        "tools": [_tool_document(tool) for tool in (*extra.tools, this_program("plot", seconds))],
    }
    return {"project_metadata": found}


def describe_fits(result: Result, fits: Fits, law: PowerLaw | None) -> Document:
    """The document of ``<name>_fits.json``; all of each fit."""
    return {
        "version": 1,
        "result_file": result.path.name,
        "g2": "baseline + contrast exp(-2 (t/tau)^gamma)",
        **_fits(result, fits, law),
    }


def _text(file: h5py.File, where: str) -> str | None:
    """Numbers become text, too: identifiers are written as either."""
    dataset = file.get(where)
    if not isinstance(dataset, h5py.Dataset) or dataset.size != 1:
        return None
    if dataset.external or dataset.is_virtual or dataset.file.filename != file.filename:
        return None  # what another file says must not be told as if this one said it
    return _decoded(np.ravel(dataset[()])[0] if dataset.shape else dataset[()])


def _decoded(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _float(file: h5py.File, where: str) -> float | None:
    try:
        return number(float(_text(file, where) or "nan"))
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


def _facts(file: h5py.File, section: str) -> Document:
    return {key: read(file, where) for key, (where, read) in _FACTS[section].items()}


def _acquisition(result: Result) -> Document:
    frames = result.intensity.shape[1]
    return {
        "frame_time_s": float(result.frame_time),
        "stride_frames": result.stride,
        "average_frames": result.average,
        "processed_frames": frames,
        "duration_s": float(frames * result.frame_seconds),
        "mean_counts": number(float(np.mean(result.intensity[1]))),
    }


def _detector(result: Result) -> Document:
    rows, columns = result.mask.shape
    return {"rows": rows, "columns": columns, "valid_fraction": float(result.mask.mean())}


def _geometry(result: Result) -> Document:
    known: Document = {key: number(value) for key, value in asdict(result.geometry).items() if key != "energy"}
    return known | {"q_per_pixel": number(result.geometry.q_per_pixel)}


def _bins(result: Result) -> Document:
    q = result.dynamic.q
    return {
        "map_names": list(result.dynamic.names),
        "map_units": list(result.dynamic.units),
        "dynamic": len(result.dynamic),
        "static": len(result.static),
        "dynamic_grid": list(result.dynamic.grid),
        "static_grid": list(result.static.grid),
        "q_min": None if q is None else number(float(q.min())),
        "q_max": None if q is None else number(float(q.max())),
    }


def _fits(result: Result, fits: Fits | None, law: PowerLaw | None) -> Document:
    bins = () if fits is None else fits.bins
    return {
        "model": None if fits is None else fits.model,
        "good": sum(fit.good for fit in bins),
        "bins": [_fit(result, index, fit) for index, fit in enumerate(bins)],
        "power_law": _law(law),
    }


def _fit(result: Result, index: int, fit: Fit) -> Document:
    bins = result.dynamic
    jackknife = result.multitau is not None and bool(result.multitau.jackknifed[index])
    return {
        "bin": int(bins.number[index]),
        "pixels": int(bins.pixels[index]),
        "label": bins.label(index),
        "q": None if bins.q is None else number(float(bins.q[index])),
        "phi": None if bins.phi is None else number(float(bins.phi[index])),
        "quality": fit.quality.value,
        "errors_of_g2": "jackknife" if jackknife else "spread over pixels",
        "lags": fit.lags,
        **_estimate("tau_s", fit.tau),
        **_estimate("contrast", fit.contrast),
        **_estimate("baseline", fit.baseline),
        **_estimate("gamma", fit.gamma),
        "reduced_chi2": number(fit.chi2),
    }


def _law(law: PowerLaw | None) -> Document:
    """τ = amplitude q^-exponent; `diffusion` is null where the exponent is not 2."""
    nothing = Estimate(math.nan, math.nan)
    return {
        **_estimate("exponent", law.exponent if law else nothing),
        **_estimate("amplitude", law.amplitude if law else nothing),
        **_estimate("diffusion", law.diffusion if law and law.diffusive else nothing),
        "reduced_chi2": number(law.chi2) if law else None,
        "bins": law.bins if law else 0,
    }


def _estimate(key: str, estimate: Estimate) -> Document:
    return {key: number(estimate.value), f"{key}_error": number(estimate.error)}


def _utc(recorded: str | None, zone: str | None) -> str | None:
    """None if that is no time of ISO 8601, or has no offset and the time zone is not known: it would be a guess."""
    try:
        time = datetime.fromisoformat((recorded or "").strip())
    except ValueError:
        return None
    if time.tzinfo is None:
        if zone is None:
            return None
        time = time.replace(tzinfo=named_zone(zone))
    return time.astimezone(UTC).isoformat(timespec="seconds")


def this_program(command: str, seconds: float) -> Tool:
    """One of our commands, as a tool that had a part in a result."""
    return Tool(
        name=f"orchestration.science xpcs {command}",
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


def _tool_document(tool: Tool) -> Document:
    return dict(asdict(tool))
