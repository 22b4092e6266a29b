"""The commands of photon correlation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from orchestration.science.errors import DeviceMissing, ParametersInvalid
from orchestration.science.progress import Style
from orchestration.science.xpcs import correlate as correlating
from orchestration.science.xpcs.correlate import Request
from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.parameters import Parameters
from orchestration.science.xpcs.read import open_raw
from orchestration.science.xpcs.rigaku import LAYOUT_3M, LAYOUT_500K
from orchestration.science.xpcs.show_cli import plot
from orchestration.science.xpcs.simulate import RawFormat, write_metadata, write_qmap, write_raw
from orchestration.science.xpcs.validate import demand_valid

_PATH = click.Path(path_type=Path)

_ENDINGS: dict[RawFormat, str] = {
    "nexus": ".h5",
    "imm": ".imm",
    "imm-sparse": ".imm",
    "rigaku500k": ".bin",
    "rigaku3m": ".bin.000",
}

_LAYOUTS = {"rigaku500k": LAYOUT_500K, "rigaku3m": LAYOUT_3M}


@click.group()
def xpcs() -> None:
    """Photon correlation: raw frames or events, and a qmap, to g2 and two-time functions."""


@xpcs.command()
@click.option("-r", "--raw", type=_PATH, help="Raw file; of a Rigaku 3M the first of the six.")
@click.option("-q", "--qmap", type=_PATH, help="Maps of the q-bins.")
@click.option("-o", "--output", type=_PATH, default="cluster_results", show_default=True, help="Folder of the result.")
@click.option("-t", "--type", type=click.Choice(["Multitau", "Twotime", "Both"]), default="Multitau", show_default=True)
@click.option("-b", "--begin-frame", type=int, default=0, show_default=True, help="Negative: counted from the end.")
@click.option("-e", "--end-frame", type=int, default=-1, show_default=True, help="The one after the last; <= 0: all.")
@click.option("-f", "--stride-frame", type=int, default=1, show_default=True, help="Take every so many-th frame.")
@click.option("-a", "--avg-frame", type=int, default=1, show_default=True, help="Average so many of these to one.")
@click.option("-d", "--dq-selection", default="all", show_default=True, help="Bins for two-time functions: 1,2,5-7.")
@click.option("-s", "--smooth", type=click.Choice(["sqmap", "dqmap"]), default="sqmap", show_default=True)
@click.option("-nf", "--normalize-frame", type=click.IntRange(0, 1), default=1, show_default=True)
@click.option("-G", "--save-G2", "save_g2", is_flag=True, help="Store G2, IP and IF of every pixel.")
@click.option("-np", "--num-partial-g2", type=int, default=0, show_default=True, help="g2 of so many parts, too.")
@click.option("--crop-ratio-threshold", type=float, default=0.5, show_default=True)
@click.option("-i", "--gpu-id", type=int, default=-1, show_default=True, help="-1: processors.")
@click.option("-p", "--prefix", default="", help="Before the name of the result.")
@click.option("-u", "--suffix", default="", help="Behind the name of the result.")
@click.option("-w", "--overwrite", is_flag=True, help="Replace a result; else it gets a number.")
@click.option("-n", "--dry-run", is_flag=True, help="Check everything but the frames, and say what would be done.")
@click.option("-v", "--verbose", is_flag=True, help="Say how far it is.")
@click.option("-c", "--config", type=_PATH, help="JSON file of options by their long names; those given here win.")
@click.option("--method", type=click.Choice(["auto", "dense", "sparse"]), default="auto", show_default=True)
@click.option("--memory", type=float, help="GiB to use; half of what is free if absent.")
@click.option("--checksums/--no-checksums", default=True, show_default=True, help="Of the inputs, for the receipt.")
@click.pass_context
def correlate(context: click.Context, /, config: Path | None, **options: Any) -> None:
    """Correlate a raw file; prints the path of the result last.

    The options are those of boost_corr; --method, --memory and --checksums are not.
    """
    chosen = _merged(context, config, options)
    request = _request(chosen)
    if chosen["dry_run"]:
        click.echo(json.dumps(_outlook(request), indent=2))
        return
    style: Style = "auto" if chosen["verbose"] else "none"
    found = correlating.correlate(request, progress=style)
    if chosen["verbose"]:
        click.echo(f"{found.frames} frames in {found.seconds:.1f} s, {found.method}", err=True)
    click.echo(found.path)


def _merged(context: click.Context, config: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those of a file in place of the defaults."""
    chosen = dict(options)
    for name, value in _file(config).items():
        known = next((each for each in chosen if each.lower() == name.replace("-", "_").lower()), None)
        if known is None:
            raise ParametersInvalid(f"{name!r} is not an option", where=str(config))
        if context.get_parameter_source(known) is ParameterSource.DEFAULT:
            option = next(each for each in context.command.params if each.name == known)
            chosen[known] = option.type_cast_value(context, value)
    for name in ("raw", "qmap"):
        if chosen[name] is None:
            raise ParametersInvalid(f"--{name} is not given", where="command line")
    return chosen


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


def _request(chosen: Mapping[str, Any]) -> Request:
    if chosen["gpu_id"] != -1:
        raise DeviceMissing(f"--gpu-id {chosen['gpu_id']}: this version correlates on processors")
    frames = Selection(
        begin=chosen["begin_frame"],
        end=chosen["end_frame"],
        stride=chosen["stride_frame"],
        average=chosen["avg_frame"],
    )
    parameters = Parameters(
        type=chosen["type"],
        frames=frames,
        normalize_frame=bool(chosen["normalize_frame"]),
        smooth=chosen["smooth"],
        dq_selection=chosen["dq_selection"],
        save_G2=chosen["save_g2"],
        num_partial_g2=chosen["num_partial_g2"],
        crop_ratio_threshold=chosen["crop_ratio_threshold"],
        method=chosen["method"],
        memory=chosen["memory"],
    )
    return Request(
        raw=chosen["raw"],
        qmap=chosen["qmap"],
        out=chosen["output"],
        parameters=parameters,
        prefix=chosen["prefix"],
        suffix=chosen["suffix"],
        overwrite=chosen["overwrite"],
        checksums=chosen["checksums"],
    )


def _outlook(request: Request) -> dict[str, object]:
    with open_raw(request.raw) as raw:
        prepared = correlating.prepare(request, raw)
        plan = prepared.plan
        return {
            "result": str(prepared.names.result()),
            "metadata": str(prepared.metadata),
            "frames": plan.chosen.count,
            "detector": [raw.rows, raw.columns],
            "dynamic_bins": plan.qmap.dynamic_bins,
            "static_bins": len(plan.qmap.static_bins),
            "lags": len(plan.lags),
            "method": plan.method,
            "occupancy": round(plan.share, 6),
        }


@xpcs.command()
@click.argument("folder", type=_PATH)
@click.option("--name", default="movie", show_default=True, help="What the files are called.")
@click.option("--format", "raw_format", type=click.Choice(list(_ENDINGS)), default="nexus", show_default=True)
@click.option("--rows", type=int, default=128, show_default=True, help="Of the detector; Rigaku's have their own.")
@click.option("--columns", type=int, default=128, show_default=True)
@click.option("--frames", type=int, default=1000, show_default=True)
@click.option("--photons", type=float, default=0.05, show_default=True, help="Mean count of a pixel in a frame.")
@click.option("--contrast", type=float, default=0.3, show_default=True)
@click.option("--decay", type=float, default=20.0, show_default=True, help="Of the field, in frames; inf: none.")
@click.option("--decay-power", type=float, default=0.0, show_default=True, help="2: as of diffusion.")
@click.option("--frame-time", "frame_time_s", type=float, default=20e-6, show_default=True, help="Seconds.")
@click.option("--rings", type=int, default=4, show_default=True, help="Dynamic bins along q.")
@click.option("--sectors", type=int, default=1, show_default=True, help="Dynamic bins around the beam.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--compressed/--no-compressed", default=False, help="NeXus with bitshuffle and LZ4.")
def simulate(
    *,
    folder: Path,
    name: str,
    raw_format: RawFormat,
    rings: int,
    sectors: int,
    compressed: bool,
    **movie: Any,
) -> None:
    """Write a movie of speckles whose g2 is known, its metadata, and a qmap for it, into FOLDER."""
    layout = _LAYOUTS.get(raw_format)
    shape = {} if layout is None else {"rows": layout.rows, "columns": layout.columns}
    description = MovieDescription(**movie | shape)
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / f"{name}{_ENDINGS[raw_format]}"
    metadata, qmap = folder / f"{name}_metadata.hdf", folder / f"{name}_qmap.hdf"
    write_raw(raw, description, raw_format, compressed=compressed)
    write_metadata(metadata, description)
    write_qmap(qmap, description, rings=rings, sectors=sectors)
    for path in (raw, metadata, qmap):
        click.echo(path)


@xpcs.command()
@click.argument("result", type=_PATH)
@click.option("-r", "--raw", type=_PATH, help="Add up some frames of this raw file again.")
def validate(result: Path, raw: Path | None) -> None:
    """Check that RESULT is what a result must be, and say what was checked."""
    if raw is None:
        checks = demand_valid(result)
    else:
        with open_raw(raw) as opened:
            checks = demand_valid(result, raw=opened)
    for check in checks:
        click.echo(check)


xpcs.add_command(plot)
