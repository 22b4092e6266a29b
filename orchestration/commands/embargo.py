"""`beamline embargo`: until when not everybody may see what is made of a scan."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import click

from orchestration.commands import page
from orchestration.commands.holds import DAYS, somebody
from orchestration.commands.scans import open_ledger, standing_embargo
from orchestration.errors import InvalidInput
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.policy import EMBARGO_UNTIL, EMBARGO_WHY, Embargo
from orchestration.times import iso


@click.command(short_help="Say until when not everybody may see a scan.")
@click.argument("scan")
@click.option("--until", type=DAYS, help="Local time at which it ends.")
@click.option("--lift", is_flag=True, help="It ends now, whatever the rule of its beamline says.")
@click.option("--why", default="", help="Kept with it; needed to change anything.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def embargo(scan: str, until: datetime | None, why: str, *, lift: bool, as_json: bool) -> None:
    """Put SCAN under embargo, or say how it stands if nothing is to be changed.

    Until it ends nothing of the scan is published for everybody; its own groups may see it. What is published already
    stays: take it out of its index first. Its beamline may have a rule for all scans; this goes before it.
    """
    if until is not None and lift:
        raise click.UsageError("--until and --lift exclude each other")
    with open_ledger() as (settings, ledger):
        found = ledger.scans.find(scan)
        if until is not None or lift:
            end = datetime.now(UTC) if until is None else until.astimezone(UTC)
            ledger.scans.learn(found.id, _facts(end, why))
            found = ledger.scans.get(found.id)
        standing, now = standing_embargo(settings, found), ledger.now()
    if as_json:
        click.echo(json.dumps({"scan": found.id, "path": found.path.text, **_document(standing, now)}))
    else:
        click.echo(_sentence(found, standing, now))


def _facts(end: datetime, why: str) -> Document:
    if not why.strip():
        raise InvalidInput("an embargo is not changed without a reason", where="--why", next_step="say why")
    said: Document = {
        EMBARGO_UNTIL: end.isoformat(timespec="seconds"),
        EMBARGO_WHY: why.strip(),
        "embargo_by": somebody(),
    }
    return said


def _document(standing: Embargo | None, now: float) -> Document:
    if standing is None:
        return {"embargo": False, "until": None, "why": ""}
    until = None if math.isinf(standing.until) else iso(standing.until)
    return {"embargo": now < standing.until, "until": until, "why": standing.why}


def _sentence(scan: Scan, standing: Embargo | None, now: float) -> str:
    if standing is None:
        return f"No embargo stands on {scan.path}."
    if math.isinf(standing.until):
        return f"{scan.path} is under embargo, and it cannot be read until when: {standing.why}."
    when = page.clock(standing.until)
    if now < standing.until:
        return f"{scan.path} is under embargo until {when}: {standing.why}."
    return f"The embargo of {scan.path} has been over since {when}: {standing.why}."
