"""`beamline sandbox`: a whole facility on this machine, without credentials."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from orchestration.commands.fault import fault
from orchestration.sandbox.layout import DEFAULT
from orchestration.sandbox.supervisor import ComponentStatus, Supervisor

_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: os.environ.get("BEAMLINE_SANDBOX") or DEFAULT,
    show_default=str(DEFAULT),
    help="Directory of the sandbox.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")


@click.group("sandbox", short_help="Run a whole facility on this machine.")
def sandbox_group() -> None:
    """Run a facility on this machine: stand-ins of all outside services, Prefect, and a worker."""


sandbox_group.add_command(fault)


@sandbox_group.command()
@_STATE
@_JSON
def up(state: Path, *, as_json: bool) -> None:
    """Start it. Running already, it is left as it is."""
    began = time.monotonic()
    supervisor = Supervisor(state)

    def tell(name: str, seconds: float) -> None:
        if not as_json:
            click.echo(f"{name:<12} " + (f"ready after {seconds:5.1f} s" if seconds else "runs already"))

    supervisor.up(tell)
    if as_json:
        click.echo(json.dumps(_report(supervisor), indent=2))
        return
    click.echo(f"{'sandbox':<12} ready after {time.monotonic() - began:5.1f} s\n")
    _show(supervisor)
    if supervisor.layout.root == DEFAULT.absolute():
        click.echo("\nCommands in this directory use it. For other directories and other programs:")
    else:
        click.echo("\nTo use it:")
    click.echo(f"  set -a; . {shlex.quote(str(supervisor.layout.environment_file))}; set +a")


@sandbox_group.command()
@_STATE
@_JSON
def down(state: Path, *, as_json: bool) -> None:
    """Stop it, with everything that it started. Its data stays."""
    stopped = Supervisor(state).down()
    if as_json:
        click.echo(json.dumps({"stopped": list(stopped)}))
    else:
        click.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@sandbox_group.command()
@_STATE
@_JSON
def status(state: Path, *, as_json: bool) -> None:
    """Show what runs, and where. Ends with 1 unless all of it runs."""
    supervisor = Supervisor(state)
    if as_json:
        click.echo(json.dumps(_report(supervisor), indent=2))
    else:
        _show(supervisor)
    if not all(component.alive for component in supervisor.status()):
        raise click.exceptions.Exit(1)


@sandbox_group.command()
@_STATE
@click.option("--yes", is_flag=True, help="Do not ask.")
@_JSON
def reset(state: Path, *, yes: bool, as_json: bool) -> None:
    """Stop it and delete all of its data."""
    supervisor = Supervisor(state)
    if not yes and supervisor.layout.exists():
        click.confirm(f"Delete {supervisor.layout.root} and all scans and results in it?", abort=True)
    supervisor.reset()
    click.echo(json.dumps({"removed": str(supervisor.layout.root)}) if as_json else "the sandbox is empty")


def _show(supervisor: Supervisor) -> None:
    tree = Tree(str(supervisor.layout.root))
    for component in supervisor.status():
        tree.add(_line(component))
    Console(soft_wrap=True).print(tree)


def _line(component: ComponentStatus) -> Text:
    if not component.alive:
        return Text.assemble((f"{component.name:<10}", "bold"), (" not running", "red"))
    where = component.url or f"log {component.log}"
    return Text.assemble((f"{component.name:<10}", "bold"), (" running", "green"), f"  {where}  (pid {component.pid})")


def _report(supervisor: Supervisor) -> dict[str, object]:
    found: Sequence[ComponentStatus] = supervisor.status()
    return {
        "state": str(supervisor.layout.root),
        "running": all(component.alive for component in found),
        "components": [{**dataclasses.asdict(component), "log": str(component.log)} for component in found],
        "environment_file": str(supervisor.layout.environment_file),
    }
