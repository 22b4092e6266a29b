"""Following a run in a terminal, to its end or until the person has seen enough."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from orchestration.commands import page
from orchestration.commands.scans import stages
from orchestration.flows.runs import RunRequest
from orchestration.flows.starting import follow
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import Failed, Succeeded

REFRESH_PER_SECOND = 4
INTERRUPTED_EXIT = 130


def watch(ledger: Ledger, request: RunRequest, run_id: str, *, scan: str, quiet: bool = False) -> Succeeded | Failed:
    """Show the stages of a run as they come, until it has ended; how it ended.

    Ctrl-C ends the watching, not the run: this process then exits, after saying how the run of `scan` is followed.
    """
    try:
        if quiet or not sys.stdout.isatty():
            return follow(request, run_id, _Lines(ledger, run_id, quiet=quiet).tell)
        picture = _Picture(ledger, request, run_id)
        with picture.live:
            return follow(request, run_id, picture.tell)
    except KeyboardInterrupt:
        name = page.program()
        click.echo(
            f"\nThe run goes on without this terminal. Look at it with `{name} show {scan}`,"
            f" or end it with `{name} cancel {scan}`.",
            err=True,
        )
        sys.exit(INTERRUPTED_EXIT)


def _stages_of(ledger: Ledger, run_id: str) -> list[OperationRecord]:
    """What this run and the runs that it started have done since it began, and not what earlier ones did."""
    record = ledger.runs.get(run_id)
    if record is None or record.scan_id is None:
        return []
    found = ledger.operations.of_scan(record.scan_id)
    return [operation for operation in found if operation.began_at >= record.started_at]


class _Lines:
    """One line for each stage that ends, where no terminal can redraw a table."""

    def __init__(self, ledger: Ledger, run_id: str, *, quiet: bool) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._quiet = quiet
        self._seen: dict[str, str] = {}
        self._note = ""

    def tell(self, note: str) -> None:
        if note and note != self._note:
            click.echo(f"  {note}", err=True)
        self._note = note
        for operation in _stages_of(self._ledger, self._run_id):
            seconds = operation.seconds
            if seconds is None or self._seen.get(operation.key) == operation.state.value:
                continue
            self._seen[operation.key] = operation.state.value
            click.echo(f"  {operation.state.value:<9}  {seconds:7.1f}  {operation.step}", err=self._quiet)


class _Picture:
    """A table that changes as the run goes on, and is gone when it has ended."""

    def __init__(self, ledger: Ledger, request: RunRequest, run_id: str) -> None:
        self._ledger = ledger
        self._request = request
        self._run_id = run_id
        self._live = Live(refresh_per_second=REFRESH_PER_SECOND, transient=True)

    @property
    def live(self) -> AbstractContextManager[object]:
        return self._live

    def tell(self, note: str) -> None:
        lines: list[RenderableType] = [Text(self._request.deployment, style=page.HEAD)]
        operations = _stages_of(self._ledger, self._run_id)
        if operations:
            lines += stages(operations)
        if note:
            lines.append(Text(note, style="yellow"))
        self._live.update(Group(*lines))
