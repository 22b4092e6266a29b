"""`beamline retention`: when copies may go, what is missing for that, and what was decided so far."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing

import click
from rich.text import Text

from orchestration.commands import page
from orchestration.commands.scans import open_ledger
from orchestration.flows.explaining import Outlook, explain
from orchestration.flows.main import use_environment
from orchestration.flows.services import Services
from orchestration.ledger.audit import AuditRecord
from orchestration.ledger.holds import HoldRecord
from orchestration.ledger.service import Document, Json


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
        lines += _lines(outlook, now)
    if not outlooks:
        lines.append("the ledger knows no copy")
    page.write(page.terminal(), [*lines, *_decided(audit)])


def _held(holds: Sequence[HoldRecord]) -> Iterator[Text]:
    for each in holds:
        yield Text(each.sentence, style="yellow")


def _lines(outlook: Outlook, now: float) -> Iterator[page.Cell]:
    copy = outlook.copy
    yield f"{copy.dataset} at {copy.endpoint}:{copy.path} ({copy.role.value}, {page.size(copy.size)})"
    if outlook.due is None:
        yield f"{page.GAP}no time is set for its deletion"
    else:
        yield f"{page.GAP}{'due since' if outlook.due <= now else 'due at'} {page.clock(outlook.due)}"
    if outlook.missing:
        yield f"{page.GAP}may not be deleted now: {outlook.missing}"
    else:
        yield f"{page.GAP}proved by {', '.join(outlook.witnesses)}"


def _decided(audit: Sequence[AuditRecord]) -> Iterator[page.Cell]:
    if audit:
        yield ""
        yield Text("decided", style=page.HEAD)
    for each in audit:
        why = f": {each.reason}" if each.reason else ""
        yield f"{page.GAP}{page.clock(each.at)}  {each.verdict.value}  {each.dataset} at {each.endpoint}{why}"


def _line(record: AuditRecord) -> Document:
    return {
        "at": record.at,
        "run": record.run_id,
        "dataset": record.dataset,
        "endpoint": record.endpoint,
        "path": record.path,
        "generation": record.generation,
        "verdict": record.verdict.value,
        "reason": record.reason,
        "evidence": record.evidence,
    }
