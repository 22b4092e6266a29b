"""`beamline demo` itself: by default a scan of tomography; other techniques have commands below it."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from orchestration.commands.demo import tomography
from orchestration.commands.demo.tomography import ScanSize
from orchestration.commands.demo.vicinity import Vicinity, sandbox_options
from orchestration.commands.demo.xpcs import xpcs


@click.group(
    short_help="Take one simulated scan through all of it.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND [ARGS]...]",
)
@click.option("--size", default=512, show_default=True, type=click.IntRange(32, 4096), help="Width and height, pixels.")
@click.option("--angles", default=360, show_default=True, type=click.IntRange(16, 10000), help="Projections.")
@click.option("--photons", default=0, show_default=True, type=click.IntRange(0), help="Per open pixel; 0: no noise.")
@sandbox_options
@click.pass_context
def demo(
    context: click.Context, /, size: int, angles: int, photons: int, state: Path, *, stop: bool, as_json: bool
) -> None:
    """Take a simulated scan from the detector to a picture, and show what became of it.

    Ends with 1 if it did not get there.
    """
    if context.invoked_subcommand is not None:
        _demand_no_options(context, context.invoked_subcommand)
        return
    vicinity = Vicinity.of(state, stop=stop, as_json=as_json)
    tomography.show(vicinity, ScanSize(size=size, angles=angles, photons=photons))


def _demand_no_options(context: click.Context, command: str) -> None:
    """They would be those of another demo, and be forgotten without a word."""
    for parameter in context.command.params:
        if context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} is no option of `demo {command}` here: options come after it")


demo.add_command(xpcs)
