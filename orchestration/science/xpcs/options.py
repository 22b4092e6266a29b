"""The options of a correlation, those of boost_corr: from the command line, a file, or a list of tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from orchestration.science.errors import ParametersInvalid
from orchestration.science.xpcs.correlate import Request
from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.parameters import Parameters

_PATH = click.Path(path_type=Path)


def _shown(*names: str, **about: Any) -> click.Option:
    return click.Option(names, show_default=True, **about)


CHECKSUMS = _shown("--checksums/--no-checksums", default=True, help="Of the inputs, for the receipt.")

CORRELATION: tuple[click.Option, ...] = (
    click.Option(["-r", "--raw"], type=_PATH, help="Raw file; of a Rigaku 3M the first of the six."),
    click.Option(["-q", "--qmap"], type=_PATH, help="Maps of the q-bins."),
    _shown("-o", "--output", type=_PATH, default="cluster_results", help="Folder of the result."),
    _shown("-t", "--type", type=click.Choice(["Multitau", "Twotime", "Both"]), default="Multitau"),
    _shown("-b", "--begin-frame", type=int, default=0, help="Negative: counted from the end."),
    _shown("-e", "--end-frame", type=int, default=-1, help="The one after the last; <= 0: all."),
    _shown("-f", "--stride-frame", type=int, default=1, help="Take every so many-th frame."),
    _shown("-a", "--avg-frame", type=int, default=1, help="Average so many of these to one."),
    _shown("-d", "--dq-selection", default="all", help="Bins for two-time functions: 1,2,5-7."),
    _shown("-s", "--smooth", type=click.Choice(["sqmap", "dqmap"]), default="sqmap"),
    _shown("-nf", "--normalize-frame", type=click.IntRange(0, 1), default=1),
    click.Option(["-G", "--save-G2", "save_g2"], is_flag=True, help="Store G2, IP and IF of every pixel."),
    _shown("-np", "--num-partial-g2", type=int, default=0, help="g2 of so many parts, too."),
    _shown("--crop-ratio-threshold", type=float, default=0.5),
    _shown("-i", "--gpu-id", type=int, default=-1, help="-1: processors; -2: a GPU that is free."),
    click.Option(["-p", "--prefix"], default="", help="Before the name of the result."),
    click.Option(["-u", "--suffix"], default="", help="Behind the name of the result."),
    _shown("--method", type=click.Choice(["auto", "dense", "sparse"]), default="auto"),
    click.Option(["--memory"], type=float, help="GiB to use; half of what is free if absent."),
    click.Option(
        ["-c", "--config"], type=_PATH, help="JSON file of options by their long names; those given here win."
    ),
)
"""Of every command that takes one correlation."""

_PLACES = frozenset({"raw", "qmap", "output"})
_TASK = click.Command(
    "task", params=[*(each for each in CORRELATION if each.name not in {*_PLACES, "config"}), CHECKSUMS]
)


def chosen(context: click.Context, config: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a command, with those of a file in place of the defaults.

    Raises:
        ParametersInvalid: if an option of the file is not one, or the raw file or qmap is missing.
    """
    found = _merged(context, given, _file(config), where=str(config))
    for name in ("raw", "qmap"):
        if found[name] is None:
            raise ParametersInvalid(f"--{name} is not given", where="command line")
    return found


def of_task(given: Mapping[str, Any], places: Mapping[str, Path], *, where: str) -> dict[str, Any]:
    """All options, from some that are given by their long names; `places` are raw, qmap and output.

    Raises:
        ParametersInvalid: if one is not an option, or cannot have this value.
    """
    context = _TASK.make_context("task", [])
    return {**_merged(context, context.params, given, where=where), **places}


def request(found: Mapping[str, Any], *, overwrite: bool = False) -> Request:
    """The correlation that is asked for.

    Raises:
        ParametersInvalid: if there can be none like that.
    """
    frames = Selection(
        begin=found["begin_frame"],
        end=found["end_frame"],
        stride=found["stride_frame"],
        average=found["avg_frame"],
    )
    parameters = Parameters(
        type=found["type"],
        frames=frames,
        normalize_frame=bool(found["normalize_frame"]),
        smooth=found["smooth"],
        dq_selection=found["dq_selection"],
        save_G2=found["save_g2"],
        num_partial_g2=found["num_partial_g2"],
        crop_ratio_threshold=found["crop_ratio_threshold"],
        gpu_id=found["gpu_id"],
        method=found["method"],
        memory=found["memory"],
    )
    return Request(
        raw=found["raw"],
        qmap=found["qmap"],
        out=found["output"],
        parameters=parameters,
        prefix=found["prefix"],
        suffix=found["suffix"],
        overwrite=overwrite,
        checksums=found.get("checksums", True),
    )


def _merged(
    context: click.Context, given: Mapping[str, Any], others: Mapping[str, Any], *, where: str
) -> dict[str, Any]:
    """The values of all options; others stand in for those that are defaults."""
    found = dict(given)
    for name, value in others.items():
        known = next((each for each in found if each.lower() == name.replace("-", "_").lower()), None)
        if known is None:
            raise ParametersInvalid(f"{name!r} is not an option", where=where)
        if value is not None and context.get_parameter_source(known) is ParameterSource.DEFAULT:
            option = next(each for each in context.command.params if each.name == known)
            found[known] = _cast(context, option, value, where=where)
    return found


def _cast(context: click.Context, option: click.Parameter, value: object, *, where: str) -> object:
    """Raises ParametersInvalid also for what click would round, or make a text of."""
    try:
        cast: object = option.type_cast_value(context, value)
    except click.BadParameter as error:
        raise ParametersInvalid(f"{option.name}: {error.message}", where=where) from error
    if not isinstance(value, str) and cast != value:
        raise ParametersInvalid(f"{option.name} cannot be {value!r}", where=where)
    return cast


def _file(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ParametersInvalid(f"the file of options cannot be read: {error}", where=str(config)) from error
    if not isinstance(values, dict):
        raise ParametersInvalid("the file of options is not a JSON object", where=str(config))
    return values
