"""A Slurm cluster on this machine: ``python -m orchestration.sandbox.slurm up DIR``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import click

from orchestration.errors import OrchestrationError
from orchestration.sandbox.slurm.cluster import Cluster, Plan
from orchestration.sandbox.slurm.files import INSIDE
from orchestration.sandbox.slurm.serving import serving

URL_VARIABLE = "BEAMLINE_SANDBOX_URL"
"""What a command beside a facility finds that one by, to control it."""

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path))


@click.group()
def main() -> None:
    """A Slurm cluster shaped like NERSC's, in one directory of this machine. Needs root; see install_slurm.sh."""


@main.command()
@DIRECTORY
@click.option("--python", type=click.Path(path_type=Path), default=sys.executable, help="Interpreter for jobs.")
@click.option("--image", "images", multiple=True, help="Pattern of the names of container images. [all names]")
@click.option("--show", "shown", multiple=True, type=click.Path(path_type=Path), help="A directory jobs must read.")
def up(directory: Path, python: Path, images: tuple[str, ...], shown: tuple[Path, ...]) -> None:
    """Start it, and say how to use it."""
    plan = Plan(python=python.absolute(), images=images or ("*",), shown=shown)
    cluster = Cluster(directory, plan)
    cluster.up(lambda name, seconds: click.echo(f"{name} after {seconds:.1f} s", err=True))
    click.echo(f"export SLURM_FACILITY={cluster.files.root}")
    click.echo("# at the facility: scripts/slurm_facility.sh run $SLURM_FACILITY squeue", err=True)
    click.echo(f"# its /pscratch and /global: {cluster.files.tree}", err=True)


@main.command()
@DIRECTORY
@click.option("--remove", is_flag=True, help="Delete the directory as well.")
def down(directory: Path, *, remove: bool) -> None:
    """End every process of it, even after a crash. Its files stay, for the next start."""
    cluster = Cluster(directory)
    was_running = cluster.down()
    if remove:
        cluster.remove()
    click.echo("down" if was_running else "nothing was running", err=True)


@main.command()
@DIRECTORY
def status(directory: Path) -> None:
    """Show its nodes and jobs; exit code 3 if it does not run."""
    cluster = Cluster(directory)
    if not cluster.running:
        click.echo("not running", err=True)
        sys.exit(3)
    click.echo(cluster.command(("sinfo", "-N", "-o", "%N %P %T %f")) + cluster.command(("squeue",)), nl=False)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@DIRECTORY
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def run(directory: Path, argv: tuple[str, ...]) -> None:
    """Become a command at the facility, as root, in this directory if it can be seen from there."""
    cluster = Cluster(directory)
    here = os.environ | cluster.environment
    here["PATH"] = f"{INSIDE}/bin:{os.environ.get('PATH', '')}:{cluster.environment['PATH']}"
    command = cluster.entering(argv, directory=str(Path.cwd()))
    os.execvpe(command[0], command, here)  # noqa: S606


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@DIRECTORY
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def serve(directory: Path, argv: tuple[str, ...]) -> None:
    """Run a command beside a facility that is served from the cluster, with the variables that lead to it.

    The facility ends with the command, and so does the cluster if it did not run before. Exits as the command does.
    """
    signal.signal(signal.SIGTERM, _leave)
    cluster = Cluster(directory)
    was_running = cluster.running
    cluster.up()
    try:
        with serving(cluster) as facility:
            variables = os.environ | facility.environment() | facility.nersc_environment()
            variables[URL_VARIABLE] = facility.url
            code = subprocess.run(argv, env=variables, check=False).returncode
    finally:
        if not was_running:
            cluster.down()
    sys.exit(code if code >= 0 else 128 - code)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def entry() -> None:
    try:
        main()
    except OrchestrationError as error:
        click.echo(f"Error: {error.sentence}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    entry()
