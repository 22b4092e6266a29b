"""`beamline config`: is the settings file right, and what may be in it?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from orchestration import config
from orchestration.errors import ConfigError


@click.group("config")
def config_group() -> None:
    """Check and describe the settings."""


@config_group.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def check(file: Path | None, *, as_json: bool) -> None:
    """Check a settings FILE (by default $BEAMLINE_CONFIG, or ./config.yml).

    Ends with 1 if anything is wrong with it, and says the line, the key and the remedy.
    """
    try:
        environment = config.load_environment()
        path = config.locate(file)
        settings, problems = config.inspect(path)
    except ConfigError as error:
        raise click.ClickException(error.sentence) from error
    notes = () if settings is None or problems else tuple(config.notes(settings))
    absent = config.credentials().absent()
    if as_json:
        click.echo(json.dumps(_report(path, environment, problems, notes, absent), indent=2))
    elif problems or settings is None:
        _show_problems(path, problems)
    else:
        _show_settings(path, settings, environment=environment, absent=absent)
        for note in notes:
            click.echo(f"note: {note}")
    raise SystemExit(1 if problems else 0)


@config_group.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    click.echo(json.dumps(config.settings_schema(), indent=2))


def _report(
    path: Path,
    environment: Path | None,
    problems: tuple[config.Problem, ...],
    notes: tuple[str, ...],
    absent: tuple[str, ...],
) -> dict[str, object]:
    return {
        "file": str(path),
        "environment_file": None if environment is None else str(environment),
        "ok": not problems,
        "problems": [dataclasses.asdict(problem) for problem in problems],
        "notes": list(notes),
        "credentials_not_set": list(absent),
    }


def _show_problems(path: Path, problems: tuple[config.Problem, ...]) -> None:
    for problem in problems:
        click.echo(f"{path}:{problem}", err=True)
    click.echo(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {path}", err=True)


def _show_settings(path: Path, settings: config.Settings, *, environment: Path | None, absent: tuple[str, ...]) -> None:
    click.echo(f"{path}: right")
    click.echo(f"  endpoints         {len(settings.endpoints)}")
    click.echo(f"  beamlines         {', '.join(settings.beamlines) or 'none'}")
    click.echo(f"  compute sites     {', '.join(settings.compute_sites) or 'none'}")
    click.echo(f"  deletes from      {', '.join(settings.retention) or 'nowhere'}")
    click.echo(f"  environment file  {environment or 'none'}")
    if absent:
        click.echo(f"  not set           {', '.join(absent)} (needed by what uses them)")
