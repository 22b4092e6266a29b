"""Correlates published datasets of 8-ID again, with another qmap or other options, each to a record beside the first.

    python scripts/xpcs_reproc_client.py SUBJECT --qmap QMAP [--suffix _finer] [--avg-frame 4]

    python scripts/xpcs_reproc_client.py --experiment foo202611 --cycle 2026-3 --qmap QMAP [--wait end]

SUBJECT is that of a record in the search index. Without it, every final record is taken that fits --search,
--experiment and --cycle; they are shown first, and asked about unless --yes is given. Options that are not given are as
they were. Starts a run of xpcs_reprocess_flow/xpcs_reprocess for each: its work queue says how many are busy at once.
With `--wait` it returns when all of them are as far as that, with 0 if all is well, and with 1 if one has failed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from orchestration import config
from orchestration.flows.aps8idi import client_options
from orchestration.flows.aps8idi.client import Client, Until, begin, look_ahead, report_all
from orchestration.flows.aps8idi.finding import Records
from orchestration.flows.aps8idi.published import Original
from orchestration.flows.aps8idi.reprocess import FLOW, xpcs_reprocess_flow
from orchestration.flows.services import Services
from orchestration.ledger.service import Document


@click.command(cls=Client, help=__doc__)
@click.argument("subject", required=False)
@click.option("--search", "words", default="", help="Words of the records that are meant.")
@click.option("--experiment", default="", help="That the records are of.")
@click.option("--cycle", default="", help="That the records are of.")
@click.option("--deployment", default="", help=client_options.DEPLOYMENT_HELP)
@click.option("--qmap", required=True, help="The file of the q-bins.")
@click.option("--suffix", default="_qmap", show_default=True, help="Added to the name of each dataset.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@client_options.of_a_correlation
@client_options.of_waiting(*Until)
@client_options.of_asking
def main(
    subject: str | None,
    *,
    until: str,
    words: str,
    experiment: str,
    cycle: str,
    deployment: str,
    yes: bool,
    overwrite: bool,
    export_control: bool,
    dry_run: bool,
    verbose: bool,
    as_json: bool,
    **given: Any,
) -> None:
    if subject is not None and (words or experiment or cycle):
        raise click.UsageError("give either a SUBJECT, or what the records have in common")
    options = client_options.chosen(given)
    goal = client_options.awaited(until, dry_run=dry_run, results_return=not options.skip_transfer_back)
    settings = config.load()
    where = settings.xpcs.deployment(deployment)
    where.qmap_to_relative(given["qmap"])
    with closing(Services(settings)) as services:
        records = Records(services=services, settings=settings, deployment=where)
        found = [records.one(subject)] if subject else records.every(words, experiment=experiment, cycle=cycle)
    asked = client_options.parameters(
        options,
        qmap=given["qmap"],
        suffix=given["suffix"],
        deployment=deployment,
        request=uuid.uuid4().hex[:12] if overwrite else "",
        is_export_control=export_control,
    )
    if verbose:
        click.echo(json.dumps(asked, indent=2), err=True)
    if dry_run:
        outlook = {one.subject: look_ahead(xpcs_reprocess_flow, _of(one, asked), verbose=verbose) for one in found}
        click.echo(json.dumps(outlook, indent=2))
    elif _agreed(found, yes=yes or subject is not None):
        started = [begin(FLOW, _of(one, asked), name=f"xpcs_reprocess: {one.title}") for one in found]
        report_all(started, goal, as_json=as_json)


def _of(original: Original, asked: Document) -> Document:
    return {**asked, "subject": original.subject}


def _agreed(found: Sequence[Original], *, yes: bool) -> bool:
    if yes:
        return True
    for one in found:
        click.echo(f"{one.title}  {one.raw.path}", err=True)
    click.echo(f"{len(found)} record{'' if len(found) == 1 else 's'}", err=True)
    return click.confirm("Correlate these again?", err=True)


if __name__ == "__main__":
    main()
