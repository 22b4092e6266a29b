"""The commands of photon correlation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from orchestration.science.progress import Style
from orchestration.science.xpcs import batch as batching
from orchestration.science.xpcs import checking, options
from orchestration.science.xpcs import correlate as correlating
from orchestration.science.xpcs.documents import Document
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.options import CHECKSUMS, CORRELATION
from orchestration.science.xpcs.read import open_raw
from orchestration.science.xpcs.rigaku import LAYOUT_3M, LAYOUT_500K
from orchestration.science.xpcs.show_cli import plot
from orchestration.science.xpcs.simulate import RawFormat, write_metadata, write_qmap, write_raw
from orchestration.science.xpcs.tasks import read_tasks
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


@xpcs.command(params=[*CORRELATION, CHECKSUMS])
@click.option("-w", "--overwrite", is_flag=True, help="Replace a result; else it gets a number.")
@click.option("-n", "--dry-run", is_flag=True, help="Check everything but the frames, and say what would be done.")
@click.option("-v", "--verbose", is_flag=True, help="Say how far it is.")
@click.pass_context
def correlate(
    context: click.Context, /, config: Path | None, overwrite: bool, dry_run: bool, verbose: bool, **given: Any
) -> None:
    """Correlate a raw file; prints the path of the result last.

    The options are those of boost_corr; --method, --memory and --checksums are not.
    """
    flags = {"overwrite": overwrite, "dry_run": dry_run, "verbose": verbose}
    found = options.chosen(context, config, given | flags)
    request = options.request(found, overwrite=found["overwrite"])
    if found["dry_run"]:
        _print(checking.outlook(request))
        return
    style: Style = "auto" if found["verbose"] else "none"
    result = correlating.correlate(request, progress=style)
    if found["verbose"]:
        click.echo(f"{result.frames} frames in {result.seconds:.1f} s, {result.method}", err=True)
    click.echo(result.path)


@xpcs.command(params=list(CORRELATION))
@click.option(
    "--settle", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds without a change."
)
@click.pass_context
def check(context: click.Context, /, config: Path | None, settle: float, **given: Any) -> None:
    """Check everything but the frames, and that raw data and metadata are not written to any more; prints JSON."""
    found = options.chosen(context, config, given | {"settle": settle})
    _print(checking.check(options.request(found), settle=found["settle"]))


@xpcs.command()
@click.option("--tasks", "text", required=True, help="JSON list of tasks, or @ and the file that has it.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw, into `resources` of each output.")
@click.option("--keep-going/--stop-at-failure", default=True, show_default=True, help="When a dataset fails.")
@click.option("-v", "--verbose", is_flag=True, help="Say how far it is.")
def batch(text: str, plots: bool, keep_going: bool, verbose: bool) -> None:
    """Correlate many datasets, and write what became of each into its outcome; prints the paths of these.

    A task is {"name", "raw", "qmap", "output", "outcome"} and, where wanted, "extra", "fit", and "options" of
    `correlate` by their long names. All are checked before the first is begun. Results that are there are replaced.
    """
    tasks = read_tasks(text)
    batching.run(tasks, plots=plots, keep_going=keep_going, progress="auto" if verbose else "none")
    for task in tasks:
        click.echo(task.outcome)


def _print(document: Document) -> None:
    click.echo(json.dumps(document, indent=2))


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
