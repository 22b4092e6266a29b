"""The commands that correlate one raw file, and check what goes in and what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from orchestration.science.progress import Style
from orchestration.science.xpcs import checking, options
from orchestration.science.xpcs import correlate as correlating
from orchestration.science.xpcs.documents import Document
from orchestration.science.xpcs.options import CHECKSUMS, CORRELATION
from orchestration.science.xpcs.read import open_raw
from orchestration.science.xpcs.validate import demand_valid

_PATH = click.Path(path_type=Path)


@click.command(params=[*CORRELATION, CHECKSUMS])
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


@click.command(params=list(CORRELATION))
@click.option(
    "--settle", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds without a change."
)
@click.pass_context
def check(context: click.Context, /, config: Path | None, settle: float, **given: Any) -> None:
    """Check everything but the frames, and that raw data and metadata are not written to any more; prints JSON."""
    found = options.chosen(context, config, given | {"settle": settle})
    _print(checking.check(options.request(found), settle=found["settle"]))


@click.command()
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


def _print(document: Document) -> None:
    click.echo(json.dumps(document, indent=2))
