"""The command that makes a movie of speckles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.rigaku import LAYOUT_3M, LAYOUT_500K
from orchestration.science.xpcs.simulate import RawFormat, write_metadata, write_qmap, write_raw

_PATH = click.Path(path_type=Path)

_ENDINGS: dict[RawFormat, str] = {
    "nexus": ".h5",
    "imm": ".imm",
    "imm-sparse": ".imm",
    "rigaku500k": ".bin",
    "rigaku3m": ".bin.000",
}

_LAYOUTS = {"rigaku500k": LAYOUT_500K, "rigaku3m": LAYOUT_3M}


@click.command()
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
