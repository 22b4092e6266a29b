"""The `beamline` command."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from orchestration.config import load_environment
from orchestration.errors import OrchestrationError

COMMANDS = {
    "batches": "batches:batches",
    "cancel": "run:cancel",
    "config": "config:config_group",
    "copies": "copies:copies",
    "demo": "demo.command:demo",
    "doctor": "doctor:doctor",
    "embargo": "embargo:embargo",
    "hold": "holds:hold",
    "ledger": "ledger:ledger_group",
    "owner": "owner:owner",
    "reconcile": "run:reconcile",
    "release": "holds:release",
    "rerun": "run:rerun",
    "retention": "retention:retention_group",
    "run": "run:run",
    "sandbox": "sandbox:sandbox_group",
    "scans": "scans:scans",
    "show": "scans:show",
    "watch": "watch:watch",
}
"""Where each command is. Those that start runs import Prefect, which takes seconds; the others need not wait."""


class Beamline(click.Group):
    """Commands are imported when they are called; an error that is meant for people is one sentence, no traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        # Before Prefect is imported, which reads its settings then.
        load_environment()
        if cmd_name == "demo":
            os.environ.setdefault("DO_NOT_TRACK", "1")
        module, _, name = COMMANDS[cmd_name].partition(":")
        found: click.Command = getattr(import_module(f"orchestration.commands.{module}"), name)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OrchestrationError as error:
            click.echo(f"{type(error).__name__}: {error.sentence}", err=True)
            sys.exit(1)


@click.group(cls=Beamline, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="beamline-orchestration")
def beamline() -> None:
    """Carry every scan of a beamline from the detector to a result somebody can look at."""


def main() -> None:
    """Entry point."""
    beamline.main(prog_name="beamline")


if __name__ == "__main__":
    main()
