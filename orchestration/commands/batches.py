"""`beamline batches`: requests to process many datasets, and how each of those ended."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence

import click
from rich.text import Text

from orchestration.commands import page
from orchestration.commands.scans import open_ledger
from orchestration.ledger.batches import BatchItem, BatchRecord, ItemState
from orchestration.ledger.operation import error_document
from orchestration.times import iso

Counts = Mapping[ItemState, int]

RETRIED = {"xpcs_batch_flow"}
"""Flows that take a batch, and try what failed in it."""


@click.command()
@click.argument("batch", required=False)
@click.option("--failed", is_flag=True, help="Of one batch: only the items that failed.")
@click.option("--limit", default=25, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, or a list of all batches.")
@click.option("--csv", "as_csv", is_flag=True, help="Of one batch: write a table, an item a line.")
def batches(batch: str | None, limit: int, *, failed: bool, as_json: bool, as_csv: bool) -> None:
    """List the newest batches and how they stand; or show how each item of BATCH stands.

    BATCH is its id or the beginning of it.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv cannot be had together")
    if batch is not None:
        _show(batch, failed=failed, as_json=as_json, as_csv=as_csv)
    elif failed or as_csv:
        raise click.UsageError("--failed and --csv are of one batch: say which")
    else:
        _list(limit, as_json=as_json)


def _list(limit: int, *, as_json: bool) -> None:
    with open_ledger() as (_, ledger):
        found = [(each, ledger.batches.counts(each.id)) for each in ledger.batches.latest(limit=limit)]
    if as_json:
        click.echo(json.dumps([_document(record, counts) for record, counts in found], indent=2))
    elif found:
        page.write(page.terminal(), _lines(found))
    else:
        click.echo("No batches yet. One appears here as soon as its run has begun.")


def _show(batch: str, *, failed: bool, as_json: bool, as_csv: bool) -> None:
    with open_ledger() as (_, ledger):
        record = ledger.batches.get(batch)
        counts, items = ledger.batches.counts(record.id), ledger.batches.items(record.id)
    shown = [item for item in items if item.state is ItemState.FAILED or not failed]
    if as_json:
        document = {**_document(record, counts), "items": [_item(item) for item in shown]}
        click.echo(json.dumps(document, indent=2))
    elif as_csv:
        click.echo(_table(shown), nl=False)
    else:
        page.write(page.terminal(), [_title(record), *_rows(shown), _summary(counts), *_hint(record, counts)])


def _hint(record: BatchRecord, counts: Counts) -> list[str]:
    """How those that failed are tried again, once the run is over."""
    if not counts[ItemState.FAILED] or counts[ItemState.WAITING] or counts[ItemState.RUNNING]:
        return []
    how = f"with batch={record.id}" if record.flow in RETRIED else "again with the same ones: what is done stays so"
    return [f"To try the failed ones again: start {record.flow} {how}"]


def _lines(found: Sequence[tuple[BatchRecord, Counts]]) -> list[Text]:
    rows: list[list[page.Cell]] = [page.heading("batch", "since", *ItemState, "flow", "name")]
    for record, counts in found:
        numbers = [_state(state, str(counts[state])) if counts[state] else "0" for state in ItemState]
        rows.append([record.id[:8], page.clock(record.created_at), *numbers, record.flow, record.name])
    return page.columns(rows, right=range(2, 2 + len(ItemState)))


def _title(record: BatchRecord) -> Text:
    text = Text(record.name, style=page.HEAD)
    about = f"{record.flow} of {record.beamline}, since {page.clock(record.created_at)}, id {record.id}"
    return Text.assemble(text, f"\n{about}\n")


def _rows(items: Sequence[BatchItem]) -> list[page.Cell]:
    if not items:
        return []
    rows: list[list[page.Cell]] = [page.heading("state", "attempts", "item", "reason")]
    rows += [[_state(item.state, item.state.value), str(item.attempts), item.name, _reason(item)] for item in items]
    return [*page.columns(rows, right={1}), ""]


def _reason(item: BatchItem) -> str:
    return "" if item.error is None else " ".join(item.error.sentence.split())


def _state(state: ItemState, text: str) -> Text:
    return Text(text, style=page.STYLES.get("succeeded" if state is ItemState.DONE else state.value, ""))


def _summary(counts: Counts) -> str:
    """``14 items: 12 done, 2 failed``"""
    parts = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    return f"{sum(counts.values())} items: {parts}".removesuffix(": ")


def _table(items: Sequence[BatchItem]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "state", "attempts", "error", "next_step"])
    for item in items:
        writer.writerow([item.name, item.state.value, item.attempts, *_why(item)])
    return text.getvalue()


def _why(item: BatchItem) -> tuple[str, str]:
    """What went wrong, and where; and what to do next."""
    if item.error is None:
        return "", ""
    place = f" ({item.error.where})" if item.error.where else ""
    return f"{item.error.what}{place}", item.error.next_step


def _document(record: BatchRecord, counts: Counts) -> dict[str, object]:
    told = {**dataclasses.asdict(record), "created_at": iso(record.created_at)}
    return {**told, "counts": {state.value: count for state, count in counts.items()}}


def _item(item: BatchItem) -> dict[str, object]:
    known = {field.name: getattr(item, field.name) for field in dataclasses.fields(item) if field.name != "batch_id"}
    error = None if item.error is None else error_document(item.error)
    return {**known, "error": error, "updated_at": iso(item.updated_at)}
