"""`beamline hold` and `release`: keeping all copies of a scan, whatever the rules say."""

from __future__ import annotations

import getpass
import json
import os
from datetime import datetime

import click

from orchestration.commands import page
from orchestration.commands.scans import open_ledger
from orchestration.ledger.copy import CopyState
from orchestration.ledger.service import Json

DAYS = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"])


def somebody() -> str:
    """Who asks; a container may know its user by number alone."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@click.command(short_help="Keep all copies of a scan.")
@click.argument("scan")
@click.option("--why", required=True, help="What the data is needed for; shown to everybody whose deletion waits.")
@click.option("--until", type=DAYS, help="Local time at which the hold ends by itself.  [default: when released]")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def hold(scan: str, why: str, until: datetime | None, *, as_json: bool) -> None:
    """Keep all copies of SCAN from being deleted, also those that are still to be made.

    Deletions that are due meanwhile are put off. Several holds may stand on one scan.
    """
    with open_ledger() as (_, ledger):
        found = ledger.scans.find(scan)
        end = None if until is None else until.astimezone().timestamp()
        placed = ledger.holds.place(found.id, why=why, who=somebody(), until=end)
        copies = ledger.copies.of_scan(found.id)
    leaving = [each for each in copies if each.state is CopyState.DELETING]
    aside = [each for each in copies if each.state is CopyState.QUARANTINED]
    going: list[Json] = [f"{each.endpoint}:{each.path}" for each in leaving]
    if as_json:
        click.echo(json.dumps({"scan": found.id, **placed.document(), "being_deleted": going}))
        return
    click.echo(f"{found.path} is {placed.sentence}.")
    for place in going:
        click.echo(f"{place} is being deleted already: that goes on.", err=True)
    for each in aside:
        back = f"`beamline retention restore {scan} --endpoint {each.endpoint}`"
        click.echo(f"{each.endpoint}:{each.path} is kept in quarantine; {back} brings it back.", err=True)


@click.command(short_help="End all holds on a scan.")
@click.argument("scan")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def release(scan: str, *, as_json: bool) -> None:
    """End all holds that stand on SCAN. Deletions that were put off take place when they are due next."""
    with open_ledger() as (_, ledger):
        found = ledger.scans.find(scan)
        ended = ledger.holds.release(found.id, who=somebody())
    if as_json:
        told: list[Json] = [each.document() for each in ended]
        click.echo(json.dumps({"scan": found.id, "ended": told}))
        return
    for each in ended:
        click.echo(f"Released: {found.path} was {each.sentence} (since {page.clock(each.placed_at)}).")
    if not ended:
        click.echo(f"No hold stands on {found.path}.")
