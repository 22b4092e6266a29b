"""`beamline run`, `rerun`, `cancel` and `reconcile`: starting and stopping what carries scans."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Sequence

import click
import yaml
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from orchestration.commands.scans import open_ledger, pictures, render, stages
from orchestration.config import Settings
from orchestration.errors import OrchestrationError
from orchestration.flows.cancelling import cancel_scan
from orchestration.flows.main import use_environment
from orchestration.flows.runs import RunRequest
from orchestration.flows.services import Services
from orchestration.flows.starting import bring_in, follow, start
from orchestration.ledger import Ledger
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.service import CancelAnswer, Document, Failed, Json

REFRESH_PER_SECOND = 4


@click.command()
@click.argument("beamline")
@click.argument("path")
@click.option("--flow", "flow_name", default="dispatcher", show_default=True, help="Which of the beamline's flows.")
@click.option("--proposal", default="", help="Folder for a file that is brought in from elsewhere on this machine.")
@click.option("--export-control", is_flag=True, help="The data may not leave the beamline.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the run to its end.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object at the end.")
def run(
    beamline: str, path: str, flow_name: str, proposal: str, *, export_control: bool, wait: bool, as_json: bool
) -> None:
    """Take the scan at PATH through a flow of BEAMLINE, by its deployment.

    PATH is what acquisition calls it (/global/raw/...), or any file of this machine: that is brought in first.
    """
    use_environment()
    with open_ledger() as (settings, ledger):
        file_path = bring_in(settings, settings.beamline(beamline), path, proposal=proposal)
        parameters: Document = {"file_path": file_path}
        if export_control:
            parameters["is_export_control"] = True
        started = start(beamline, flow_name, parameters, name=f"{flow_name}: {file_path}")
        finish(settings, ledger, started, wait=wait, as_json=as_json)


@click.command()
@click.argument("scan")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A parameter of the reconstruction.")
@click.option("--flow", "flow_name", default="local_recon_flow", show_default=True, help="Which flow reconstructs.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the run to its end.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object at the end.")
def rerun(scan: str, changes: Sequence[str], flow_name: str, *, wait: bool, as_json: bool) -> None:
    """Reconstruct SCAN again, with other parameters: `beamline rerun tooth --set center=297.5`."""
    use_environment()
    with open_ledger() as (settings, ledger):
        found = ledger.scans.find(scan)
        parameters: Document = {
            "file_path": found.path.text,
            "parameters": dict(_change(change) for change in changes),
            "request": uuid.uuid4().hex[:12],
        }
        started = start(found.beamline, flow_name, parameters, name=f"{flow_name}: {found.path.name} again")
        finish(settings, ledger, started, wait=wait, as_json=as_json)


@click.command()
@click.argument("scan")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def cancel(scan: str, *, as_json: bool) -> None:
    """Cancel all that is going on with SCAN, here and at the facilities, and say what each answered."""
    use_environment()
    with open_ledger() as (settings, ledger):
        found = ledger.scans.find(scan)
        answers = cancel_scan(ledger, Services(settings), found.id)
    if as_json:
        click.echo(json.dumps({"scan": found.id, "answers": {step: answer.value for step, answer in answers.items()}}))
    elif not answers:
        click.echo(f"Nothing is going on with {found.path}.")
    else:
        for step, answer in answers.items():
            click.echo(f"{step}: {answer.value}")
    if any(answer in {CancelAnswer.REFUSED, CancelAnswer.UNKNOWN} for answer in answers.values()):
        sys.exit(1)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def reconcile(*, as_json: bool) -> None:
    """Find runs whose process is gone without a word, close them, and start them again."""
    use_environment()
    from orchestration.flows.reconciling import reconcile as reconcile_flow

    report = reconcile_flow()
    click.echo(json.dumps(report, indent=None if as_json else 2))


def finish(
    settings: Settings, ledger: Ledger, started: tuple[RunRequest, str], *, wait: bool, as_json: bool
) -> Overview | None:
    """Follow a run that was started, show what came of it, and end with 1 if it failed."""
    request, run_id = started
    if not wait:
        click.echo(json.dumps({"run": run_id}) if as_json else f"started run {run_id} of {request.deployment}")
        return None
    ended = watch(ledger, request, run_id, quiet=as_json)
    record = ledger.runs.get(run_id)
    found = None
    if record is not None and record.scan_id is not None:
        found = overview(ledger, ledger.scans.get(record.scan_id))
    error = ended.error if isinstance(ended, Failed) else None
    if as_json:
        click.echo(json.dumps(_summary(settings, run_id, found, error)))
    elif found is not None:
        Console().print(render(settings, found))
    if error is not None:
        click.echo(f"{type(error).__name__}: {error.sentence}", err=True)
        sys.exit(1)
    return found


def watch(ledger: Ledger, request: RunRequest, run_id: str, *, quiet: bool = False) -> object:
    """Show the stages of a run as they come, until it has ended; how it ended."""
    if quiet or not sys.stdout.isatty():
        return follow(request, run_id, _Lines(ledger, run_id, quiet=quiet).tell)
    with Live(refresh_per_second=REFRESH_PER_SECOND, transient=True) as live:
        return follow(request, run_id, lambda: live.update(_standing(ledger, request, run_id)))


class _Lines:
    """One line for each stage that begins or ends, where no terminal can redraw a table."""

    def __init__(self, ledger: Ledger, run_id: str, *, quiet: bool) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._quiet = quiet
        self._seen: dict[str, str] = {}

    def tell(self) -> None:
        record = self._ledger.runs.get(self._run_id)
        if record is None or record.scan_id is None:
            return
        for operation in self._ledger.operations.of_scan(record.scan_id):
            if self._seen.get(operation.key) == operation.state.value or operation.began_at < record.started_at:
                continue
            self._seen[operation.key] = operation.state.value
            seconds = "" if operation.seconds is None else f" in {operation.seconds:.1f} s"
            click.echo(f"  {operation.step}: {operation.state.value}{seconds}", err=self._quiet)


def _standing(ledger: Ledger, request: RunRequest, run_id: str) -> RenderableType:
    record = ledger.runs.get(run_id)
    if record is None or record.scan_id is None:
        return Text(f"{request.deployment}: waiting for a worker")
    return Group(Text(request.deployment, style="bold"), stages(ledger.operations.of_scan(record.scan_id)))


def _summary(
    settings: Settings, run_id: str, found: Overview | None, error: OrchestrationError | None
) -> dict[str, object]:
    scan = {} if found is None else found.document()
    shown = [] if found is None else [str(path) for path in pictures(settings, found)]
    return {**scan, "run": run_id, "pictures": shown, "failed": None if error is None else error.sentence}


def _change(text: str) -> tuple[str, Json]:
    """``center=297.5`` with the value as YAML reads it."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    return name.strip().replace("-", "_"), yaml.safe_load(value)
