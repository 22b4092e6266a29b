"""The `beamline` command."""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestration.commands.config import config_group
from orchestration.commands.demo import demo
from orchestration.commands.fault import fault
from orchestration.commands.ledger import ledger_group
from orchestration.commands.run import cancel, reconcile, rerun, run
from orchestration.commands.sandbox import sandbox_group
from orchestration.commands.scans import scans, show
from orchestration.errors import OrchestrationError


class _Beamline(click.Group):
    """An error that is meant for people is one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OrchestrationError as error:
            click.echo(f"{type(error).__name__}: {error.sentence}", err=True)
            sys.exit(1)


@click.group(cls=_Beamline, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="beamline-orchestration")
def beamline() -> None:
    """Carry every scan of a beamline from the detector to a result somebody can look at."""


for command in (
    cancel,
    config_group,
    demo,
    ledger_group,
    reconcile,
    rerun,
    run,
    sandbox_group,
    scans,
    show,
):
    beamline.add_command(command)

sandbox_group.add_command(fault)


def main() -> None:
    """Entry point."""
    beamline.main(prog_name="beamline")


if __name__ == "__main__":
    main()
