"""Correlates all datasets of an experiment of 8-ID, and says what became of each.

    python scripts/xpcs_batch_client.py list-experiments 2026-3

    python scripts/xpcs_batch_client.py run 2026-3/foo202611/data --qmap 2026-3/foo202611/data/foo_qmap.hdf

    python scripts/xpcs_batch_client.py status 0a1b2c3d

    python scripts/xpcs_batch_client.py retry 0a1b2c3d

EXPERIMENT is the folder whose folders are datasets, as the computers of the beamline have it, or relative to the root
of their data. `list-...` look at the storage itself.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import click

from orchestration import config
from orchestration.commands.batches import batches
from orchestration.commands.scans import open_ledger
from orchestration.errors import InvalidInput
from orchestration.flows.aps8idi import client_options
from orchestration.flows.aps8idi.batch import FLOW, xpcs_batch_flow
from orchestration.flows.aps8idi.client import Clients, Until, begin, look_ahead, report
from orchestration.flows.aps8idi.finding import Source
from orchestration.flows.services import Services
from orchestration.ledger.batches import ItemState


@click.group(cls=Clients, help=__doc__)
def main() -> None: ...


def _list(look: Callable[[Source], Sequence[str]], deployment: str, *, as_json: bool) -> None:
    settings = config.load()
    with closing(Services(settings)) as services:
        where = settings.xpcs.deployment(deployment)
        found = look(Source(services=services, settings=settings, deployment=where))
    if as_json:
        click.echo(json.dumps([*found]))
    elif found:
        click.echo("\n".join(found))
    else:
        click.echo("nothing of that kind is there", err=True)


@main.command("list-cycles")
@client_options.of_a_list
def list_cycles(deployment: str, *, as_json: bool) -> None:
    """The cycles that there is data of."""
    _list(lambda source: source.cycles(), deployment, as_json=as_json)


@main.command("list-experiments")
@click.argument("cycle")
@client_options.of_a_list
def list_experiments(cycle: str, deployment: str, *, as_json: bool) -> None:
    """The folders of CYCLE."""
    _list(lambda source: source.folders(cycle), deployment, as_json=as_json)


@main.command("list-qmaps")
@click.argument("experiment")
@client_options.of_a_list
def list_qmaps(experiment: str, deployment: str, *, as_json: bool) -> None:
    """The files in the folder EXPERIMENT that may be qmaps."""
    _list(lambda source: source.qmaps(experiment), deployment, as_json=as_json)


@main.command("list-datasets")
@click.argument("experiment")
@client_options.of_a_list
def list_datasets(experiment: str, deployment: str, *, as_json: bool) -> None:
    """The folders in the folder EXPERIMENT: `run` takes each for a dataset."""
    _list(lambda source: source.folders(experiment), deployment, as_json=as_json)


@main.command()
@click.argument("experiment")
@click.option("--qmap", required=True, help="The file of the q-bins, of all datasets.")
@click.option("--name", default="", help="Of the experiment, for the records; found in the path if left out.")
@click.option("--cycle", default="", help="Of the accelerator, such as 2026-1; found in the path if left out.")
@click.option("--deployment", default="", help=client_options.DEPLOYMENT_HELP)
@click.option("--dataset", "datasets", multiple=True, help="Only this one, by its folder; may be given several times.")
@client_options.of_a_batch
@client_options.of_a_correlation
@client_options.of_waiting(Until.NO, Until.END)
@client_options.of_asking
def run(
    experiment: str,
    *,
    name: str,
    datasets: Sequence[str],
    until: str,
    overwrite: bool,
    export_control: bool,
    dry_run: bool,
    verbose: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Correlate the datasets in the folder EXPERIMENT: those that have no result yet, or with --overwrite all."""
    options = client_options.chosen(given)
    goal = client_options.awaited(until, dry_run=dry_run)
    where = config.load().xpcs.deployment(given["deployment"])
    folder = where.to_relative(experiment)
    where.qmap_to_relative(given["qmap"])
    named = ("qmap", "cycle", "deployment", *client_options.BATCH_LIMITS)
    asked = client_options.parameters(
        options,
        folder=experiment,
        experiment=name,
        **{each: given[each] for each in named},
        datasets=[*datasets],
        request=uuid.uuid4().hex[:12] if overwrite else "",
        is_export_control=export_control,
    )
    if verbose:
        click.echo(json.dumps(asked, indent=2), err=True)
    if dry_run:
        found = look_ahead(xpcs_batch_flow, asked, verbose=verbose)
        click.echo(json.dumps(found, indent=2))
        sys.exit(1 if any(isinstance(each, dict) and "error" in each for each in found.values()) else 0)
    report(begin(FLOW, asked, name=f"xpcs_batch: {folder}"), goal, as_json=as_json)


@main.command()
@click.argument("batch")
@client_options.of_a_batch
@client_options.of_waiting(Until.NO, Until.END)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def retry(batch: str, *, until: str, as_json: bool, **given: int) -> None:
    """Try the failed datasets of BATCH again, with what they were tried with."""
    with open_ledger() as (_, ledger):
        record = ledger.batches.get(batch)
        counts = ledger.batches.counts(record.id)
    if record.flow != FLOW or counts[ItemState.DONE] == sum(counts.values()):
        raise InvalidInput(
            f"batch {record.id} has nothing that could be tried again",
            where=f"{record.flow}, {counts[ItemState.DONE]} datasets done",
            next_step="see `beamline batches`",
        )
    started = begin(FLOW, {"batch": record.id, **given}, name=f"xpcs_batch: {record.name} again")
    report(started, Until(until), as_json=as_json, also={"batch": record.id})


main.add_command(batches, "status")


if __name__ == "__main__":
    main()
