"""The tomography commands."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from orchestration.science.tomography import compare as comparing
from orchestration.science.tomography import reconstruct as reconstructing
from orchestration.science.tomography import simulate as simulating
from orchestration.science.tomography.parameters import Parameters, kinds, load
from orchestration.science.tomography.read import open_scan

Command = Callable[..., None]
_PATH = click.Path(path_type=Path)


@click.group()
def tomography() -> None:
    """Parallel-beam tomography: Data Exchange HDF5 files to slices, volumes and pictures."""


def _with_parameters(command: Command) -> Command:
    """Every parameter as an option, and --parameters for a file of them."""
    for item in reversed(dataclasses.fields(Parameters)):
        command = _option(item)(command)
    file = click.option("--parameters", "file", type=_PATH, help="YAML file of parameters; options given here win.")
    return file(command)


def _option(item: dataclasses.Field[Any]) -> Callable[[Command], Command]:
    allowed, choices = kinds(item)
    flag = f"--{item.name.replace('_', '-')}"
    text = item.metadata["help"]
    shown = item.default is not None
    if choices:
        kind = click.Choice(choices)
        return click.option(flag, item.name, type=kind, default=item.default, show_default=shown, help=text)
    if bool in allowed:
        flags = f"{flag}/--no-{item.name.replace('_', '-')}"
        return click.option(flags, item.name, default=item.default, show_default=shown, help=text)
    number = int if int in allowed and float not in allowed else float
    return click.option(flag, item.name, type=number, default=item.default, show_default=shown, help=text)


def _parameters(context: click.Context, file: Path | None, options: dict[str, Any]) -> Parameters:
    given = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    return load(file, given)


@tomography.command()
@click.argument("scan", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="Folder for the results; made if absent.")
@click.option("--name", default="", help="What the results are called in it. [rec<stem>]")
@click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "plain", "json", "none"]),
    default="auto",
    show_default=True,
    help="How progress is shown; `json` writes one line per block to standard output.",
)
@_with_parameters
@click.pass_context
def reconstruct(
    context: click.Context, /, scan: Path, out: Path, name: str, progress: Any, file: Path | None, **options: Any
) -> None:
    """Reconstruct SCAN into OUT: rec<stem>/*.tiff, rec<stem>.zarr, rec<stem>.preview and rec<stem>.json."""
    result = reconstructing.reconstruct(scan, out, _parameters(context, file, options), name=name, progress=progress)
    if progress == "json":
        fields = {"finished": True, "report": str(result.report), "center": result.center, "seconds": result.seconds}
        click.echo(json.dumps(fields, ensure_ascii=False))
    else:
        click.echo(f"{result.slices} slices in {result.seconds:.1f} s, center {result.center:.2f}: {result.report}")


@tomography.command()
@click.argument("scan", type=_PATH)
@_with_parameters
@click.pass_context
def center(context: click.Context, /, scan: Path, file: Path | None, **options: Any) -> None:
    """Find the rotation axis of SCAN and print it as JSON."""
    parameters = _parameters(context, file, options)
    with open_scan(scan, fallbacks=reconstructing.fallbacks(parameters)) as opened:
        found = reconstructing.locate(opened, parameters, reconstructing.normaliser(opened, parameters))
    click.echo(json.dumps(dataclasses.asdict(found) | {"confidence": round(found.confidence, 4)}))


@tomography.command()
@click.argument("scan", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="Folder for rec<stem>.preview.")
@_with_parameters
@click.pass_context
def preview(context: click.Context, /, scan: Path, out: Path, file: Path | None, **options: Any) -> None:
    """Reconstruct the middle row of SCAN only and write pictures."""
    click.echo(reconstructing.preview(scan, out, _parameters(context, file, options)))


@tomography.command()
@click.argument("target", metavar="OUT.h5", type=_PATH)
@click.option("--size", type=int, help="Width and height of the detector in pixels.")
@click.option("--width", type=int, help="Width, if not square.")
@click.option("--height", type=int, help="Height, if not square.")
@click.option("--angles", type=int, default=360, show_default=True, help="Number of projections.")
@click.option("--range", "angle_range", type=click.Choice(["180", "360"]), default="180", help="Degrees.")
@click.option("--center-offset", type=float, default=0.0, help="Axis from the middle of the detector, in pixels.")
@click.option("--noise", type=float, default=0.0, help="Photons per pixel in the open beam; 0 for no noise.")
@click.option("--rings", is_flag=True, help="Pixels whose gain has changed since the flats.")
@click.option("--zingers", is_flag=True, help="Lone bright pixels.")
@click.option("--pixel-size-mm", type=float, default=0.00325, show_default=True)
@click.option("--sample", default="shepp logan", show_default=True)
@click.option("--proposal", default="ALS-00000", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def simulate(
    *,
    target: Path,
    size: int | None,
    width: int | None,
    height: int | None,
    angle_range: str,
    noise: float,
    **rest: Any,
) -> None:
    """Write the scan of a phantom whose slices are known exactly."""
    description = simulating.ScanDescription(
        width=width or size or 256,
        height=height or size or 32,
        angle_range=float(angle_range),
        photons=noise,
        **rest,
    )
    simulating.write_scan(target, description)
    click.echo(target)


@tomography.command()
@click.argument("reconstruction", type=_PATH)
@click.option("--scan", type=_PATH, required=True, help="The simulated scan it was reconstructed from.")
def compare(reconstruction: Path, scan: Path) -> None:
    """Compare RECONSTRUCTION (a folder of TIFFs or a .zarr) with the phantom, and print the errors as JSON."""
    found = comparing.compare(reconstruction, simulating.read_description(scan))
    click.echo(json.dumps(dataclasses.asdict(found)))
