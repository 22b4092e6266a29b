"""`beamline retention`: when copies may go, what is missing for that, and what was decided so far."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing

import click
from rich.text import Text

from orchestration.commands import page
from orchestration.commands.holds import somebody
from orchestration.commands.scans import open_ledger
from orchestration.flows.explaining import Outlook, explain
from orchestration.flows.main import use_environment
from orchestration.flows.restoring import restore
from orchestration.flows.services import Services
from orchestration.ledger.audit import AuditRecord
from orchestration.ledger.holds import HoldRecord
from orchestration.ledger.service import Document, Json
from orchestration.times import iso

MOMENTS = frozenset({"verified_at", "looked_at", "until"})
"""Of the evidence for a deletion."""


@click.group("retention")
def retention_group() -> None:
    """When copies may be deleted, and why."""


@retention_group.command("explain")
@click.argument("scan")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def explain_command(scan: str, *, as_json: bool) -> None:
    """Say of each copy of SCAN when it may be deleted and what is missing for that, and what was decided so far.

    Each copy and its witnesses are looked at, as a deletion would. Nothing is changed.
    """
    use_environment()
    with open_ledger() as (settings, ledger), closing(Services(settings)) as services:
        found = ledger.scans.find(scan)
        outlooks = explain(settings, ledger, services, found)
        holds, audit = ledger.holds.standing(found.id), ledger.audit.of_scan(found.id)
        now = ledger.now()
    if as_json:
        copies: list[Json] = [each.document() for each in outlooks]
        standing: list[Json] = [each.document() for each in holds]
        decided: list[Json] = [_line(each) for each in audit]
        click.echo(json.dumps({"scan": found.id, "holds": standing, "copies": copies, "audit": decided}, indent=2))
        return
    lines: list[page.Cell] = [Text(found.path.text, style=page.HEAD), *_held(holds)]
    for outlook in outlooks:
        lines += _lines(outlook, now, scan=found.path.text)
    if not outlooks:
        lines.append("The ledger knows no copy of it, or no more.")
    page.write(page.terminal(), [*lines, *_decided(audit)])


@retention_group.command("restore")
@click.argument("scan")
@click.option("--endpoint", help="Only what is in quarantine there.  [default: everywhere]")
@click.option("--dataset", help="Only copies of this dataset, such as `raw`.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def restore_command(scan: str, endpoint: str | None, dataset: str | None, *, as_json: bool) -> None:
    """Bring copies of SCAN back from quarantine, to where they were.

    They may be deleted again when the time that their retention rule says has passed from now. To keep them for good,
    place a hold.
    """
    use_environment()
    with open_ledger() as (settings, ledger), closing(Services(settings)) as services:
        if endpoint is not None:
            settings.endpoint(endpoint)
        found = ledger.scans.find(scan)
        back = restore(settings, ledger, services, found, who=somebody(), endpoint=endpoint, dataset=dataset)
    if as_json:
        restored: list[Json] = [each.document() for each in back]
        click.echo(json.dumps({"scan": found.id, "restored": restored}, indent=2))
        return
    for each in back:
        until = each.copy.delete_after
        kept = "no time is set for its deletion" if until is None else f"kept until {page.clock(until)} at least"
        click.echo(f"{each.copy.dataset} is back at {each.copy.endpoint}:{each.copy.path}, {kept}.")
        for note in each.notes:
            click.echo(f"  {note}", err=True)


def _held(holds: Sequence[HoldRecord]) -> Iterator[Text]:
    for each in holds:
        yield Text(each.sentence, style="yellow")


def _lines(outlook: Outlook, now: float, *, scan: str) -> Iterator[page.Cell]:
    copy = outlook.copy
    yield ""
    yield f"{copy.dataset} at {copy.endpoint}:{copy.path} ({copy.role.value}, {page.size(copy.size)})"
    if outlook.aside:
        yield f"{page.GAP}in quarantine since {page.clock(copy.quarantined_at)}, at {copy.lies_at}"
        named = shlex.join(["restore", scan, "--endpoint", copy.endpoint, "--dataset", copy.dataset])
        taken = copy.path == copy.quarantine_path
        back = "its place was taken by a newer copy" if taken else f"to have it back: beamline retention {named}"
        yield f"{page.GAP}{back}"
    yield f"{page.GAP}{_when(outlook, now)}"
    if outlook.missing:
        yield f"{page.GAP}may not be deleted now: {outlook.missing}"
    else:
        yield f"{page.GAP}kept elsewhere, and found whole just now: {', '.join(outlook.witnesses)}"


def _when(outlook: Outlook, now: float) -> str:
    if outlook.due is None:
        return "is not deleted by itself"
    if outlook.due <= now:
        return f"to be deleted since {page.clock(outlook.due)}; it is tried every night"
    return f"is kept until {page.clock(outlook.due)} at least"


def _decided(audit: Sequence[AuditRecord]) -> Iterator[page.Cell]:
    if audit:
        yield ""
        yield Text("decided so far", style=page.HEAD)
    rows: list[Sequence[page.Cell]] = []
    for each in audit:
        why = _why(each)
        told = f"{each.dataset} at {each.endpoint}" + (f": {why}" if why else "")
        rows.append([f"{page.GAP}{page.clock(each.at)}", each.verdict.value, told])
    yield from page.columns(rows)


def _why(line: AuditRecord) -> str:
    """In words; the whole evidence is in the JSON object."""
    witnesses, until = line.evidence.get("witnesses"), line.evidence.get("until")
    places = (
        [str(each["endpoint"]) for each in witnesses if isinstance(each, dict)] if isinstance(witnesses, list) else []
    )
    if places:
        return f"it may go, there is a verified copy at {' and '.join(places)}"
    if isinstance(until, int | float):
        return f"set aside until {page.clock(until)}, out of sight and to be had back"
    return line.reason


def _line(record: AuditRecord) -> Document:
    return {
        "at": iso(record.at),
        "run": record.run_id,
        "dataset": record.dataset,
        "endpoint": record.endpoint,
        "path": record.path,
        "generation": record.generation,
        "verdict": record.verdict.value,
        "reason": record.reason,
        "evidence": _dated(record.evidence),
    }


def _dated(evidence: Json) -> Json:
    """As it is told to programs; the ledger has seconds."""
    if isinstance(evidence, list):
        return [_dated(each) for each in evidence]
    if not isinstance(evidence, dict):
        return evidence
    return {name: _moment(value) if name in MOMENTS else _dated(value) for name, value in evidence.items()}


def _moment(value: Json) -> Json:
    return iso(value) if isinstance(value, int | float) else value
