"""`beamline copies`: which copies are missing or changed, and which files nobody knows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import click

from orchestration.commands import page
from orchestration.commands.scans import open_ledger
from orchestration.ledger.inventory import FoundCopy, Round, UnknownFolder
from orchestration.ledger.service import Document, Json
from orchestration.times import iso


@click.command(short_help="Show which copies are missing, changed, unknown.")
@click.option("--endpoint", help="Only what is there.  [default: everywhere]")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def copies(endpoint: str | None, *, as_json: bool) -> None:
    """Show what `watch_copies` has found so far: how far the inventory of each endpoint is, which copies are missing or
    changed and why, and how many files of what size each folder has that the ledger does not know.

    Nothing is looked at now; `beamline retention explain` looks at the copies of one scan.
    """
    with open_ledger() as (settings, ledger):
        if endpoint is not None:
            settings.endpoint(endpoint)
        inventory = ledger.inventory
        names = [name for name in inventory.endpoints() if endpoint in {None, name}]
        rounds = [(name, inventory.number(name), inventory.round_of(name)) for name in names]
        found = inventory.findings(endpoint=endpoint)
        strangers = inventory.unknown(endpoint=endpoint)
    if as_json:
        told: list[Json] = [_round_document(*each) for each in rounds]
        lost: list[Json] = [_document(each) for each in found]
        unknown: list[Json] = [_folder(each) for each in strangers]
        click.echo(json.dumps({"inventory": told, "copies": lost, "unknown": unknown}, indent=2))
        return
    page.write(page.terminal(), [*_rounds(rounds), *_lost(found), *_strangers(strangers)])


def _rounds(rounds: Sequence[tuple[str, int, Round | None]]) -> Iterator[page.Cell]:
    if not rounds:
        yield "The ledger knows no copies here yet."
        return
    rows: list[Sequence[page.Cell]] = [page.heading("endpoint", "copies", "looked at", "since")]
    for name, number, found in rounds:
        looked = "0" if found is None else "all" if found.ended_at is not None else str(found.looked)
        rows.append([name, str(number), looked, page.clock(None if found is None else found.began_at)])
    yield from page.columns(rows, right={1, 2})


def _lost(found: Sequence[FoundCopy]) -> Iterator[page.Cell]:
    yield ""
    if not found:
        yield "No copy is known to be missing or changed."
    for each in found:
        since = f" (found {page.clock(each.found_at)})" if each.found_at else ""
        yield f"{each.state.value}: {each.dataset} at {each.endpoint}:{each.path}, {page.size(each.size)}{since}"
        if each.why:
            yield f"{page.GAP}{each.why}"


def _strangers(found: Sequence[UnknownFolder]) -> Iterator[page.Cell]:
    if not found:
        return
    yield ""
    rows: list[Sequence[page.Cell]] = [page.heading("unknown files in", "files", "size", "newest", "such as")]
    for each in found:
        folder = f"{each.endpoint}:{each.folder or '(root)'}"
        rows.append([folder, str(each.files), page.size(each.size), page.day(each.newest), each.example])
    yield from page.columns(rows, right={1, 2})


def _folder(found: UnknownFolder) -> Document:
    return {
        "endpoint": found.endpoint,
        "folder": found.folder,
        "files": found.files,
        "size": found.size,
        "oldest": iso(found.oldest),
        "newest": iso(found.newest),
        "example": found.example,
        "seen_at": iso(found.seen_at),
    }


def _round_document(name: str, number: int, found: Round | None) -> Document:
    if found is None:
        return {"endpoint": name, "copies": number, "looked": 0, "began_at": None, "ended_at": None}
    times: Document = {"began_at": iso(found.began_at), "ended_at": iso(found.ended_at)}
    return {"endpoint": name, "copies": number, "looked": found.looked, **times}


def _document(found: FoundCopy) -> Document:
    return {
        "scan": found.scan_id,
        "dataset": found.dataset,
        "endpoint": found.endpoint,
        "path": found.path,
        "size": found.size,
        "state": found.state.value,
        "why": found.why,
        "by_checksum": found.by_checksum,
        "found_at": iso(found.found_at),
    }
