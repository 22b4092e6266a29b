"""`beamline ledger`: the database behind everything, its version and its health."""

from __future__ import annotations

import dataclasses
import json

import click

from orchestration import config
from orchestration.errors import OrchestrationError
from orchestration.ledger.database import SCHEMA_VERSION, schema_version, shown
from orchestration.ledger.database import migrate as migrate_database
from orchestration.ledger.health import Health, examine


@click.group("ledger")
def ledger_group() -> None:
    """Check and migrate the ledger."""


@ledger_group.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def migrate(*, as_json: bool) -> None:
    """Bring the ledger's schema to the version of this program.

    Safe at any time and from several machines at once; stop the workers of older versions first.
    """
    try:
        url = config.load().ledger.url
        before = schema_version(url)
        migrate_database(url)
        after = schema_version(url)
    except OrchestrationError as error:
        raise click.ClickException(error.sentence) from error
    if as_json:
        click.echo(json.dumps({"url": shown(url), "before": before, "after": after}))
    elif before == after:
        click.echo(f"{shown(url)}: has schema {after} already")
    else:
        click.echo(f"{shown(url)}: schema {before or 'none'} -> {after}")
    if after != SCHEMA_VERSION:
        raise SystemExit(1)


@ledger_group.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def check(*, as_json: bool) -> None:
    """Look whether the ledger can be reached, fits this program and is whole. Changes nothing.

    Ends with 1 if something is wrong. Operations that nobody holds are no fault: the next run carries on.
    """
    try:
        health = examine(config.load().ledger.url)
    except OrchestrationError as error:
        raise click.ClickException(error.sentence) from error
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(health), "ok": health.sound}, indent=2))
    else:
        _show(health)
    raise SystemExit(0 if health.sound else 1)


def _show(health: Health) -> None:
    click.echo(f"{health.url}: {'right' if health.sound else 'not right'}")
    if health.schema != health.needed:
        click.echo(
            f"  schema            {health.schema or 'none'}; needed is {health.needed}: run `beamline ledger migrate`"
        )
        return
    click.echo(f"  schema            {health.schema}")
    for table, count in sorted(health.rows.items()):
        click.echo(f"  {table:<17} {count}")
    click.echo(f"  open operations   {health.open_operations}")
    click.echo(f"  waiting runs      {len(health.waiting_runs)}, for which {health.watchers} watchers wait")
    if health.waiting_runs and not health.watchers:
        click.echo("  no watcher lives: start `beamline watch`; until then only `reconcile` looks after those runs")
    for title, lines in (("held by nobody", health.unattended), ("dead runs", health.dead_runs)):
        for line in lines:
            click.echo(f"  {title:<17} {line}")
    for problem in health.problems:
        click.echo(f"  problem           {problem}", err=True)
