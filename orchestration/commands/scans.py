"""`beamline scans` and `beamline show`: what happened to a scan, and where its pictures are."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from orchestration import config
from orchestration.commands import page
from orchestration.config import Settings
from orchestration.ledger import Ledger
from orchestration.ledger.audit import AuditRecord
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.decisions import DecisionRecord
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.overview import Overview, ScanState, overview
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.policy import BeamlineRules, Embargo, embargo

SCHEDULES = "prefect.schedule"
VERSION_TAG = re.compile(r" \[[0-9a-f]{8}\]$")
"""Tells the steps of one reconstruction from those of the next; of no use to people."""

TELLING = 0.05
"""Seconds; a part of a reconstruction that took less is not shown."""

WORDY = 40
"""Characters; a longer entry of a receipt is explanation, not measurement."""


@contextmanager
def open_ledger() -> Iterator[tuple[Settings, Ledger]]:
    """Settings and ledger of whatever this working directory points to: production, or the sandbox."""
    settings = config.load()
    with Ledger.of(settings) as ledger:
        yield settings, ledger


@click.command()
@click.option("--beamline", help="Only scans of this beamline.")
@click.option("--limit", default=25, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON list.")
def scans(beamline: str | None, limit: int, *, as_json: bool) -> None:
    """List the newest scans and how they stand."""
    with open_ledger() as (settings, ledger):
        if beamline is not None:
            settings.beamline(beamline)
        found = [overview(ledger, scan) for scan in ledger.scans.latest(limit=limit, beamline=beamline)]
    if as_json:
        click.echo(json.dumps([_brief(each) for each in found], indent=2))
    elif found:
        page.write(page.terminal(), _list(found))
    else:
        name = page.program()
        click.echo(f"No scans yet. Start one with `{name} run bl832 <path>`, or see the whole way with `{name} demo`.")


@click.command()
@click.argument("scan")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def show(scan: str, *, as_json: bool) -> None:
    """Show all that is known of SCAN.

    SCAN is its id or the beginning of it, its path, its file name, or a part of that: then the newest one is meant.
    """
    with open_ledger() as (settings, ledger):
        found = overview(ledger, ledger.scans.find(scan))
    if as_json:
        document = found.document()
        click.echo(json.dumps({**document, "pictures": [str(path) for path in pictures(settings, found)]}, indent=2))
    else:
        write_scan(page.terminal(), settings, found)


def write_scan(console: Console, settings: Settings, found: Overview, *, brief: bool = False) -> None:
    """A scan as a page for the terminal; `brief` leaves out where its copies are."""
    lines: list[page.Cell] = [_title(settings, found), *stages(found.operations)]
    for decision in [] if brief else found.decisions:
        lines += ["", *_decision(decision)]
    if found.copies and not brief:
        lines += ["", Text("copies", style=page.HEAD), *_copies(found.copies)]
    for result in found.results[-1:] if brief else found.results:
        lines += ["", *_result(result)]
    if found.denials and not brief:
        lines += ["", Text("not permitted", style=page.HEAD), *_denials(found.denials)]
    shown = pictures(settings, found)
    if shown:
        lines += ["", Text("pictures", style=page.HEAD), *(f"  {path}" for path in shown)]
    said = ([] if found.error is None else [found.error]) + ([] if brief else list(found.refusals))
    for error in {each.sentence: each for each in said}.values():
        lines += ["", *page.error_block(error, console)]
    page.write(console, lines)


def _denials(denials: Sequence[AuditRecord]) -> Iterator[page.Cell]:
    """What was refused many times in the same words is shown by its last time."""
    last = {(each.dataset, each.reason): each for each in denials}
    for each in sorted(last.values(), key=lambda one: one.at):
        yield f"{page.GAP}{page.clock(each.at)}  {each.dataset}: {each.reason}"


def standing_embargo(settings: Settings, scan: Scan) -> Embargo | None:
    """Of the scan itself, or by the rule of its beamline; it may be over."""
    return embargo(scan.facts, scan.registered_at, settings.rules.get(scan.beamline, BeamlineRules()))


def _title(settings: Settings, found: Overview) -> Text:
    scan = found.scan
    text = Text.assemble((scan.path.text, "bold"), page.GAP, page.state(found.state.value))
    text.append(f"\n{scan.beamline}, known since {page.clock(scan.registered_at)}, id {scan.id}\n")
    if scan.export_controlled:
        text.append("export-controlled: stays at the beamline\n", style="yellow")
    kept = standing_embargo(settings, scan)
    if kept is not None and time.time() < kept.until:
        until = "without an end" if math.isinf(kept.until) else f"until {page.clock(kept.until)}"
        text.append(f"under embargo {until}, not everybody may see it: {kept.why}\n", style="yellow")
    if found.state is ScanState.INTERRUPTED:
        text.append("a run of it ended without a word; `beamline reconcile` starts it again\n", style="yellow")
    for each in found.holds:
        text.append(f"{each.sentence}\n", style="yellow")
    return text


def stages(operations: Sequence[OperationRecord]) -> list[Text]:
    """The stages of a scan with their times; what a run of another flow did stands below that run."""
    if not operations:
        return [Text("no stage has begun")]
    rows: list[list[page.Cell]] = [page.heading("state", "seconds", "stage")]
    return page.columns(rows + list(_rows(operations, operations, depth=0)), right={1})


def _rows(
    operations: Sequence[OperationRecord], everything: Sequence[OperationRecord], *, depth: int
) -> Iterator[list[page.Cell]]:
    handles = {operation.handle for operation in everything if operation.handle}
    level = [operation for operation in operations if depth or operation.run_id not in handles]
    for merged, group in groupby(level, _is_planned_deletion):
        members = list(group)
        if merged and len(members) > 1:
            seconds = sum(operation.seconds or 0.0 for operation in members)
            yield _row("succeeded", seconds, f"schedule the deletion of {len(members)} copies", depth)
            continue
        for operation in members:
            yield _row(operation.state.value, _seconds(operation), _step(operation), depth)
            if operation.handle:
                children = [each for each in everything if each.run_id == operation.handle]
                yield from _rows(children, everything, depth=depth + 1)


def _row(state: str, seconds: float, step: str, depth: int) -> list[page.Cell]:
    return [page.state(state), f"{seconds:.1f}", page.GAP * depth + step]


def _is_planned_deletion(operation: OperationRecord) -> bool:
    return operation.service == SCHEDULES and operation.state is OperationState.SUCCEEDED


def _seconds(operation: OperationRecord) -> float:
    return operation.seconds if operation.seconds is not None else max(0.0, time.time() - operation.began_at)


def _step(operation: OperationRecord) -> str:
    step = VERSION_TAG.sub("", operation.step)
    if operation.attempt > 1:
        step += f" (attempt {operation.attempt})"
    doing = _doing(operation.progress) if operation.state.open and operation.progress else ""
    return f"{step}: {doing}" if doing else step


def _doing(progress: Mapping[str, Json]) -> str:
    done, total, note = progress.get("bytes_done"), progress.get("bytes_total"), progress.get("note")
    parts = [str(note)] if note else []
    if isinstance(done, int) and isinstance(total, int) and total:
        parts.append(f"{page.size(done)} of {page.size(total)}")
    return ", ".join(parts)


_PICTURES = (".preview", ".pictures")
"""How datasets that are folders of pictures end."""


def pictures(settings: Settings, found: Overview) -> list[Path]:
    """The preview pictures that can be opened from this machine, of the newest result."""
    for copy in reversed(found.copies):
        endpoint = settings.endpoints.get(copy.endpoint)
        if copy.dataset.endswith(_PICTURES) and copy.state is CopyState.PRESENT and endpoint and endpoint.mount:
            return sorted(endpoint.local_path(copy.path).glob("*.png"))
    return []


def _list(found: Sequence[Overview]) -> list[Text]:
    rows: list[list[page.Cell]] = [page.heading("scan", "state", "since", "results", "file")]
    for each in found:
        since = page.clock(each.scan.registered_at)
        results = str(len(each.results))
        rows.append([each.scan.id[:8], page.state(each.state.value), since, results, each.scan.path.text])
    return page.columns(rows, right={3})


def _copies(copies: Sequence[CopyRecord]) -> list[Text]:
    """What there is of each dataset, and where; datasets in the order in which they came to be."""
    lines: list[Text] = []
    for dataset in dict.fromkeys(copy.dataset for copy in copies):
        members = [copy for copy in copies if copy.dataset == dataset]
        lines.append(Text(f"  {dataset}, {_amount(members[0])}"))
        rows: list[list[page.Cell]] = [[_fate(copy), f"{copy.endpoint}:{copy.path}"] for copy in members]
        lines += page.columns(rows, indent=2 * page.GAP)
    return lines


def _amount(copy: CopyRecord) -> str:
    return f"{page.size(copy.size)} in {copy.files} files" if copy.files > 1 else page.size(copy.size)


def _fate(copy: CopyRecord) -> Text:
    if copy.state is CopyState.DELETED:
        return Text(f"deleted {page.day(copy.deleted_at)}", style=page.STYLES["deleted"])
    if copy.state is CopyState.QUARANTINED:
        return Text(f"in quarantine until {page.day(copy.delete_after)}", style=page.STYLES["deleted"])
    return Text("kept" if copy.delete_after is None else f"until {page.day(copy.delete_after)}")


def _decision(decision: DecisionRecord) -> list[Text]:
    """Where it was decided to do something, and what spoke for and against each site."""
    title = f"{decision.step}: {decision.site or 'no site'}, decided {page.clock(decision.decided_at)}"
    return [Text(title, style=page.HEAD), *(Text(f"{page.GAP}{each.sentence}") for each in decision.candidates)]


def _result(result: ResultRecord) -> list[Text]:
    """How good it is and how long it took; its whole receipt is in the JSON."""
    receipt = result.receipt
    slow: Json = {
        name: value for name, value in receipt.timings.items() if isinstance(value, float) and value >= TELLING
    }
    named: Document = {**receipt.quality, "of which": slow}
    rows: list[list[page.Cell]] = [[_label(name), _value(name, value)] for name, value in named.items()]
    title = Text(f"{result.kind} at {receipt.site}: {result.endpoint}:{result.path}", style=page.HEAD)
    return [title, *page.columns([row for row in rows if row[1]], indent=page.GAP)]


def _label(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")


def _value(name: str, value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(key, each)}" for key, each in value.items() if len(str(each)) < WORDY)
    if isinstance(value, list):
        between = "; " if any(isinstance(each, str) for each in value) else " x "
        return between.join(_value(name, each) for each in value)
    if name.endswith("_bytes") and isinstance(value, int):
        return page.size(value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _brief(found: Overview) -> dict[str, object]:
    document = found.document()
    return {key: document[key] for key in ("scan", "beamline", "path", "state", "registered_at", "error")}
