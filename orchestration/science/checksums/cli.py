"""``python -m orchestration.science checksums``: is a copy what it was?"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import click

from orchestration.science.checksums.digest import ALGORITHMS, digest


@click.command
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--algorithm", type=click.Choice(ALGORITHMS), default="sha256", show_default=True)
@click.option("--links/--no-links", default=True, help="Whether symbolic links in a folder are followed.")
@click.option("--output", type=click.Path(path_type=Path), help="File for the answer, as JSON; else it is printed.")
@click.option("--threads", type=click.IntRange(1), default=4, show_default=True)
def checksums(path: Path, algorithm: str, *, links: bool, output: Path | None, threads: int) -> None:
    """Compute one checksum over the file PATH, or over all files below the folder PATH.

    That of a folder is the SHA-256 of its sorted lines "checksum size name".
    """
    text = json.dumps(asdict(digest(path, algorithm=algorithm, links=links, threads=threads)))
    if output is None:
        click.echo(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    part.write_text(text + "\n")
    part.replace(output)
