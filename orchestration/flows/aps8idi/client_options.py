"""The command-line options of the client scripts of XPCS, with the names that 8-ID knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from orchestration.errors import InvalidInput
from orchestration.flows.aps8idi.client import Until
from orchestration.flows.aps8idi.options import Options
from orchestration.ledger.service import Document, Json

F = TypeVar("F", bound=Callable[..., Any])

BATCH_LIMITS = {
    "run_batch_size": (20, "Datasets of one job."),
    "active_runs_limit": (20, "Datasets that are looked at or carried at once."),
    "max_blocks": (5, "Jobs that are there at once."),
}
DEPLOYMENT_HELP = "One of xpcs.deployments in config.yml; the default one if left out."
BATCH_SIZE_NOTE = "--batch_size is ignored: how many frames are read at once follows from the data"


def of_a_correlation(command: F) -> F:
    """An option for each choice of a run."""
    for name, field in reversed(Options.model_fields.items()):
        command = _option(name, field)(command)
    return command


def of_a_dataset(command: F) -> F:
    """What is said of a dataset besides where it is."""
    for flag, told in reversed(
        {
            "--experiment": "Its name, for the record; found in the path if left out.",
            "--cycle": "Of the accelerator, such as 2026-1; found in the path if left out.",
            "--deployment": DEPLOYMENT_HELP,
        }.items()
    ):
        command = click.option(flag, default="", help=told)(command)
    return command


def of_a_batch(command: F) -> F:
    """How much of it is there at once."""
    for name, (default, told) in reversed(BATCH_LIMITS.items()):
        flag = f"--{name.replace('_', '-')}"
        limit = click.option(flag, name, type=click.IntRange(1), default=default, show_default=True, help=told)
        command = limit(command)
    return command


def of_a_list(command: F) -> F:
    """Where one looks."""
    return click.option("--deployment", default="", help=DEPLOYMENT_HELP)(
        click.option("--json", "as_json", is_flag=True, help="Write one JSON list.")(command)
    )


def of_asking(command: F) -> F:
    """How it is asked for."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write one JSON object."),
        click.option("--verbose", is_flag=True, help="Say on standard error what is asked for, and how it is done."),
        click.option("--dry-run", is_flag=True, help="Check everything, say what would be done, and do nothing."),
        click.option("--export-control", is_flag=True, help="The data may not leave the beamline."),
        click.option("--overwrite", is_flag=True, help="Have it computed again, to a folder of its own."),
    ):
        command = option(command)
    return command


def of_waiting(*choices: Until) -> Callable[[F], F]:
    return click.option(
        "--wait",
        "until",
        type=click.Choice([each.value for each in choices]),
        default=Until.NO.value,
        show_default=True,
        help="Return when the run is started, when its results are back, or when it has ended.",
    )


def chosen(given: Mapping[str, Any]) -> Options:
    """The options of a run, of what was given on the command line.

    Raises:
        click.UsageError: if they do not go together.
    """
    try:
        return Options.parse(
            {name: value for name, value in given.items() if name in Options.model_fields and value is not None}
        )
    except InvalidInput as error:
        raise click.UsageError(error.what) from error


def parameters(options: Options, **given: Json) -> Document:
    """Of a flow: what was said, and no more."""
    said: Document = {name: value for name, value in given.items() if value}
    return {**said, "options": options.given} if options.given else said


def awaited(until: str, *, dry_run: bool, results_return: bool = True) -> Until:
    """What is waited for.

    Raises:
        click.UsageError: if it will never come.
    """
    if dry_run and until != Until.NO:
        raise click.UsageError("--dry-run starts no run that could be waited for")
    if until == Until.RESULTS and not results_return:
        raise click.UsageError("with --skip-transfer-back no results come back: use --wait end")
    return Until(until)


def _option(name: str, field: FieldInfo) -> Callable[[F], F]:
    kind, flag = field.annotation, f"--{name.replace('_', '-')}"
    shown = field.default != "" and field.default is not False and str(field.default)
    # Not given, it is left to the flow: a reprocessing takes what the original was made with.
    settings: dict[str, Any] = {"default": None, "show_default": shown, "help": field.description}
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}" if field.default else flag, name, is_flag=True, **settings)
    if get_origin(kind) is Literal:
        return click.option(flag, name, type=click.Choice(get_args(kind)), **settings)
    return click.option(flag, name, type=kind, **settings)
