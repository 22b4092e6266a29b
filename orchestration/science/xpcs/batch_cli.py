"""The command that correlates many datasets."""

from __future__ import annotations

import click

from orchestration.science.xpcs.batch import run
from orchestration.science.xpcs.tasks import read_tasks


@click.command()
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
    run(tasks, plots=plots, keep_going=keep_going, progress="auto" if verbose else "none")
    for task in tasks:
        click.echo(task.outcome)
