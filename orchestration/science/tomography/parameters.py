"""Everything that can be chosen about a reconstruction, with defaults, limits and help; also the file it comes from."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from orchestration.science.errors import ParametersInvalid


def _choice(default: Any, text: str, *, low: float | None = None, high: float | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of one reconstruction."""

    center: float | None = _choice(
        None, "Column of the rotation axis (first column is 0); found in the data if absent."
    )
    first_row: int = _choice(0, "First detector row to reconstruct.", low=0)
    last_row: int | None = _choice(None, "Last detector row to reconstruct; the bottom one if absent.", low=0)
    angle_range: float | None = _choice(None, "Degrees from first to last projection, where the file does not say.")
    pixel_size_mm: float | None = _choice(None, "Pixel size in mm, instead of the file's.", low=1e-9)
    flat_value: float | None = _choice(None, "Counts of the open beam, where the file has no flats.")
    dark_value: float | None = _choice(None, "Counts without beam, where the file has no darks.")
    normalisation: Literal["mean", "median"] = _choice("mean", "How flat and dark frames are combined.")
    transmission_floor: float = _choice(0.01, "Least transmission before the logarithm.", low=1e-6, high=1)
    zinger_threshold: float = _choice(0.0, "Remove lone pixels brighter by this transmission; 0 for none.", low=0)
    rings: Literal["none", "median", "fw", "sorting"] = _choice(
        "median", "Ring removal: robust column offsets, Fourier-wavelet, sorting, or none."
    )
    ring_level: int = _choice(8, "Wavelet levels of ring removal.", low=1, high=12)
    ring_sigma: float = _choice(3.0, "Damping width of ring removal.", low=0.1, high=50)
    ring_size: int = _choice(21, "Columns of the running median of ring removal (median, sorting).", low=3, high=301)
    filter: Literal["ramp", "shepp", "cosine", "hann", "hamming", "butterworth"] = _choice(
        "ramp", "Window on the ramp filter; `ramp` is the most exact, `butterworth` the least noisy."
    )
    filter_cutoff: float = _choice(0.25, "Butterworth cutoff in cycles per pixel.", low=1e-3, high=10)
    filter_order: float = _choice(2.0, "Butterworth order.", low=0.5, high=20)
    padding: Literal["edge", "zero"] = _choice("edge", "How a sample wider than the detector goes on beyond it.")
    mask: bool = _choice(True, "Set what is outside the circle to 0.")  # noqa: FBT003
    device: Literal["auto", "cpu", "gpu"] = _choice("auto", "Where to compute.")
    threads: int = _choice(0, "Threads; 0 for all processors.", low=0, high=4096)
    memory: float | None = _choice(None, "Memory to use, in GiB; half of what is free if absent.", low=0.05)
    tiff: bool = _choice(True, "Write one TIFF per slice.")  # noqa: FBT003
    zarr: bool = _choice(True, "Write a multiscale OME-Zarr volume.")  # noqa: FBT003
    preview: bool = _choice(True, "Write pictures of orthogonal slices.")  # noqa: FBT003

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check(item, getattr(self, item.name), where="parameters")
        if self.last_row is not None and self.last_row < self.first_row:
            what = f"last_row {self.last_row} is above first_row {self.first_row}"
            raise ParametersInvalid(what, where="parameters")

    @property
    def chosen(self) -> dict[str, Any]:
        """Those that are not the defaults; equal choices have one spelling."""
        values = {item.name: _plain(item, getattr(self, item.name)) for item in dataclasses.fields(self)}
        defaults = {item.name: item.default for item in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != defaults[name]}


def _plain(item: dataclasses.Field[Any], value: Any) -> Any:
    return float(value) if float in kinds(item)[0] and isinstance(value, int) else value


def kinds(item: dataclasses.Field[Any]) -> tuple[tuple[type, ...], tuple[str, ...]]:
    """The types that a field takes (float takes whole numbers too), and its choices if it has any."""
    hint = typing.get_type_hints(Parameters)[item.name]
    if typing.get_origin(hint) is Literal:
        return (str,), typing.get_args(hint)
    return (typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)), ()


def _check(item: dataclasses.Field[Any], value: object, *, where: str) -> None:
    allowed, choices = kinds(item)
    accepted = (*allowed, int) if float in allowed else allowed
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in allowed)
        raise ParametersInvalid(f"{item.name} is {value!r}, not {names}", where=where)
    if choices and value not in choices:
        raise ParametersInvalid(f"{item.name} is {value!r}, not one of {', '.join(choices)}", where=where)
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = item.metadata["low"], item.metadata["high"]
        if not abs(value) < float("inf"):
            raise ParametersInvalid(f"{item.name} is {value!r}, not a finite number", where=where)
        if (low is not None and value < low) or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ParametersInvalid(f"{item.name} is {value!r}, not {limits}", where=where)


def load(path: Path | None, overrides: Mapping[str, object]) -> Parameters:
    """Parameters from a YAML file, if any, with what the command line gave over them.

    Raises:
        ParametersInvalid: naming the file and the first key that is unknown or has a wrong value.
    """
    values = _read(path) if path else {}
    items = {item.name: item for item in dataclasses.fields(Parameters)}
    for name, value in values.items():
        if name not in items:
            raise ParametersInvalid(f"{name!r} is not a parameter; there are: {', '.join(items)}", where=str(path))
        _check(items[name], value, where=str(path))
    return Parameters(**(values | dict(overrides)))


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParametersInvalid(f"the parameter file cannot be read: {error}", where=str(path)) from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ParametersInvalid("the parameter file is not a list of `name: value`", where=str(path))
    return values
