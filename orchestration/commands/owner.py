"""`beamline owner`: whose a scan is, and what an operator says of that."""

from __future__ import annotations

import json

import click

from orchestration.commands.holds import somebody
from orchestration.commands.scans import open_ledger
from orchestration.config import Settings, is_address
from orchestration.errors import InvalidInput
from orchestration.flows.addressing import SAID_EMAIL, addresses
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.policy import OWNED_BY


@click.command(short_help="Say whose a scan is.")
@click.argument("scan")
@click.option("--proposal", default="", help="The proposal that it belongs to, as its groups and folders call it.")
@click.option("--email", default="", help="Who is written to about it.")
@click.option("--why", default="", help="Kept with it; needed to change anything.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def owner(scan: str, proposal: str, email: str, why: str, *, as_json: bool) -> None:
    """Say whose SCAN is, or how that stands if nothing is to be changed.

    What is said here goes before the metadata of the scan and before its folder, also when these are read again. It
    decides who may be told of the scan, and into whose folders it goes, from now on; what was done before stays.
    """
    with open_ledger() as (settings, ledger):
        found = ledger.scans.find(scan)
        if proposal or email:
            ledger.scans.learn(found.id, _facts(proposal.strip(), email.strip(), why.strip()))
            found = ledger.scans.get(found.id)
    document = _document(settings, found)
    click.echo(json.dumps(document) if as_json else _sentence(document))


def _facts(proposal: str, email: str, why: str) -> Document:
    if not why:
        raise InvalidInput("whose a scan is is not changed without a reason", where="--why", next_step="say why")
    if email and not is_address(email):
        raise InvalidInput(f"{email!r} is no mail address", where="--email")
    said: Document = {name: text for name, text in ((OWNED_BY, proposal), (SAID_EMAIL, email)) if text}
    return {**said, "owner_why": why, "owner_said_by": somebody()}


def _document(settings: Settings, scan: Scan) -> Document:
    written_to: list[Json] = [*addresses(settings, scan)]
    return {
        "scan": scan.id,
        "path": scan.path.text,
        "proposal": settings.proposal(scan.beamline, scan.path.text, scan.facts),
        "written_to": written_to,
        "why": scan.facts.get("owner_why", ""),
    }


def _sentence(document: Document) -> str:
    proposal, written_to = document["proposal"], document["written_to"]
    whose = f"proposal {proposal}" if proposal else "no known proposal"
    told = ", ".join(map(str, written_to)) if isinstance(written_to, list) and written_to else "nobody"
    return f"{document['path']} belongs to {whose}. Written to about it: {told}."
