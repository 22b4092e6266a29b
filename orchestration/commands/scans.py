"""`beamline scans` and `beamline show`: what happened to a scan, and where its pictures are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestration import config
from orchestration.config import Settings
from orchestration.ledger import Ledger
from orchestration.ledger.copies import CopyRecord, CopyState
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.results import ResultRecord

STYLES = {
    "completed": "green",
    "succeeded": "green",
    "present": "green",
    "running": "cyan",
    "planned": "cyan",
    "registered": "default",
    "failed": "bold red",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "expired": "dim",
    "deleted": "dim",
}


@contextmanager
def open_ledger() -> Iterator[tuple[Settings, Ledger]]:
    """Settings and ledger of whatever this working directory points to: production, or the sandbox."""
    settings = config.load()
    with Ledger(settings.ledger.url, lease_seconds=settings.ledger.lease_seconds) as ledger:
        yield settings, ledger


@click.command()
@click.option("--beamline", help="Only scans of this beamline.")
@click.option("--limit", default=25, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON list.")
def scans(beamline: str | None, limit: int, *, as_json: bool) -> None:
    """List the newest scans and how they stand."""
    with open_ledger() as (_, ledger):
        found = [overview(ledger, scan) for scan in ledger.scans.latest(limit=limit, beamline=beamline)]
    if as_json:
        click.echo(json.dumps([_brief(each) for each in found], indent=2))
        return
    if not found:
        click.echo(
            "No scans yet. Start one with `beamline run bl832 <path>`, or see the whole way with `beamline demo`."
        )
        return
    table = Table(
        "scan", "beamline", "file", "state", "since", "results", box=None, pad_edge=False, header_style="bold"
    )
    for each in found:
        table.add_row(
            each.scan.id[:8],
            each.scan.beamline,
            each.scan.path.text,
            _state(each.state.value),
            _clock(each.scan.registered_at),
            str(len(each.results)),
        )
    Console().print(table)


@click.command()
@click.argument("scan")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def show(scan: str, *, as_json: bool) -> None:
    """Show all that is known of SCAN (its id or the beginning of it, its path, or its file name)."""
    with open_ledger() as (settings, ledger):
        found = overview(ledger, ledger.scans.find(scan))
    if as_json:
        document = found.document()
        click.echo(json.dumps({**document, "pictures": [str(path) for path in pictures(settings, found)]}, indent=2))
    else:
        Console().print(render(settings, found), soft_wrap=False)


def render(settings: Settings, found: Overview) -> RenderableType:
    """A scan as a page for the terminal."""
    head = Text.assemble(
        (found.scan.path.text, "bold"), f"  {found.scan.beamline}  {found.scan.id}  ", _state(found.state.value)
    )
    if found.scan.export_controlled:
        head.append("  export-controlled: stays at the beamline", style="yellow")
    parts: list[RenderableType] = [head, Text(""), stages(found.operations)]
    if found.copies:
        parts += [Text(""), _copies(found.copies)]
    parts += [block for result in found.results for block in (Text(""), _result(result))]
    shown = pictures(settings, found)
    if shown:
        parts += [Text(""), Text("pictures", style="bold"), *(Text(f"  {path}", no_wrap=True) for path in shown)]
    if found.error is not None:
        parts += [
            Text(""),
            Text(f"{type(found.error).__name__}: {found.error.what}", style="bold red"),
            Text(f"  where  {found.error.where}"),
            Text(f"  next   {found.error.next_step}"),
        ]
    return Group(*parts)


def stages(operations: Sequence[OperationRecord]) -> Table:
    """The stages of a scan with their times."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("seconds", no_wrap=True, justify="right")
    table.add_column("began", no_wrap=True)
    table.add_column("")
    for operation in operations:
        seconds = "" if operation.seconds is None else f"{operation.seconds:.1f}"
        note = f"attempt {operation.attempt}" if operation.attempt > 1 else ""
        table.add_row(
            operation.step,
            _state(operation.state.value),
            seconds,
            _clock(operation.began_at),
            note or _doing(operation),
        )
    return table


def pictures(settings: Settings, found: Overview) -> list[Path]:
    """The preview pictures that can be opened from this machine, of the newest result."""
    for copy in reversed(found.copies):
        endpoint = settings.endpoints.get(copy.endpoint)
        if copy.dataset.endswith(".preview") and copy.state is CopyState.PRESENT and endpoint and endpoint.mount:
            return sorted(endpoint.local_path(copy.path).glob("*.png"))
    return []


def _copies(copies: Sequence[CopyRecord]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("copy", no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("size", no_wrap=True, justify="right")
    table.add_column("files", justify="right")
    table.add_column("may go", no_wrap=True)
    for copy in copies:
        where = f"{copy.endpoint}:{copy.path}"
        table.add_row(copy.dataset, where, _bytes(copy.size), str(copy.files), _fate(copy))
    return table


def _fate(copy: CopyRecord) -> Text:
    if copy.state is CopyState.DELETED:
        return Text(f"deleted {_day(copy.deleted_at)}", style=STYLES["deleted"])
    return Text("no date" if copy.delete_after is None else _day(copy.delete_after))


def _result(result: ResultRecord) -> RenderableType:
    quality, timings = result.receipt.quality, result.receipt.timings
    lines = [Text(f"{result.kind} at {result.receipt.site}: {result.path}", style="bold")]
    for name, value in quality.items():
        lines.append(Text(f"  {name}: {json.dumps(value)}"))
    if timings:
        lines.append(Text("  seconds: " + ", ".join(f"{name} {value}" for name, value in timings.items())))
    return Group(*lines)


def _brief(found: Overview) -> dict[str, object]:
    document = found.document()
    return {key: document[key] for key in ("scan", "beamline", "path", "state", "registered_at", "error")}


def _doing(operation: OperationRecord) -> str:
    if operation.state.open and operation.progress:
        return str(operation.progress.get("note") or "")
    return ""


def _state(name: str) -> Text:
    return Text(name, style=STYLES.get(name, "default"))


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _day(seconds: float | None) -> str:
    return _clock(seconds)[:16]


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{size} B"
