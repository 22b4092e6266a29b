"""Correlates one dataset of 8-ID: for acquisition, its data management, and people in a terminal.

    python scripts/xpcs_corr_client.py --raw /gdata/dm/8IDI/2026-3/foo202611/data/A001/A001.h5 \\
        --qmap /gdata/dm/8IDI/2026-3/foo202611/data/foo_qmap.hdf [--type Both] [--wait results]

Starts a run of xpcs_online_flow/xpcs_online, and says its id, its page at Prefect, and where the results will lie.
Paths are as the computers of the beamline have them. With `--wait results` it returns as soon as the results are back:
what comes next in a workflow begins while pictures and the record are still made. Ends with 0 if all is well, with 1
and a sentence on standard error if not, and with 2 if it was called wrongly.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import click

from orchestration import config
from orchestration.flows.aps8idi import client_options
from orchestration.flows.aps8idi.client import Client, Until, begin, look_ahead, report
from orchestration.flows.aps8idi.online import FLOW, xpcs_online_flow
from orchestration.flows.aps8idi.payload import Payload


@click.command(cls=Client, help=__doc__)
@click.option("--raw", required=True, help="The raw file, the first of several, or the folder of the dataset.")
@click.option("--qmap", required=True, help="The file of its q-bins.")
@client_options.of_a_dataset
@click.option("--suffix", default="", help="Of the name of the result.")
@client_options.of_a_correlation
@click.option("--batch_size", "--batch-size", "batch_size", hidden=True)
@click.option("--output", hidden=True)
@client_options.of_waiting(*Until)
@client_options.of_asking
def main(
    *,
    until: str,
    batch_size: str | None,
    output: str | None,
    overwrite: bool,
    export_control: bool,
    dry_run: bool,
    verbose: bool,
    as_json: bool,
    **given: Any,
) -> None:
    if output is not None:
        raise click.UsageError(
            "--output cannot be chosen: results lie below the `results` endpoint of the deployment, at the path of the "
            "dataset, in a folder called after the qmap; without --output this says which"
        )
    options = client_options.chosen(given)
    goal = client_options.awaited(until, dry_run=dry_run, results_return=not options.skip_transfer_back)
    if batch_size is not None:
        click.echo(client_options.BATCH_SIZE_NOTE, err=True)
    named = ("raw", "qmap", "experiment", "cycle", "deployment", "suffix")
    asked = client_options.parameters(
        options,
        **{name: given[name] for name in named},
        request=uuid.uuid4().hex[:12] if overwrite else "",
        is_export_control=export_control,
    )
    payload = Payload.parse(config.load(), asked, options)
    result = f"{payload.deployment.result_endpoint}:{payload.result_folder}"
    if verbose:
        click.echo(json.dumps(payload.document(), indent=2), err=True)
    if dry_run:
        click.echo(json.dumps(look_ahead(xpcs_online_flow, asked, verbose=verbose), indent=2))
        return
    started = begin(FLOW, asked, name=f"xpcs_online: {payload.dataset}")
    report(started, goal, as_json=as_json, also={"results": "" if options.skip_transfer_back else result})


if __name__ == "__main__":
    main()
