"""`beamline run`, `rerun`, `cancel` and `reconcile`: starting and stopping what carries scans."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing

import click
import yaml

from orchestration.commands import page
from orchestration.commands.following import watch
from orchestration.commands.scans import open_ledger, pictures, write_scan
from orchestration.config import Settings
from orchestration.errors import Cancelled, OrchestrationError, UnknownName
from orchestration.flows.cancelling import Answered
from orchestration.flows.intake import Intake
from orchestration.flows.main import use_environment
from orchestration.flows.runs import RunRequest
from orchestration.flows.services import Services
from orchestration.flows.starting import bring_in, checked_parameters, demand_server, start
from orchestration.flows.stopping import cancel_scan
from orchestration.ledger import Ledger
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import scan_identity
from orchestration.ledger.service import CancelAnswer, Document, Failed, Json

_ANSWERS = {
    CancelAnswer.CANCELLED: "cancelled",
    CancelAnswer.ALREADY_FINISHED: "had already finished",
    CancelAnswer.REFUSED: "refused to be cancelled: it goes on",
    CancelAnswer.UNKNOWN: "has not confirmed that it stopped; ask again in a while",
}

NAMED = 3
"""Others of a batch that a sentence names."""


@click.command(short_help="Take a scan, or another path, through a flow.")
@click.argument("beamline")
@click.argument("path")
@click.option("--flow", "flow_name", default="dispatcher", show_default=True, help="Which of the beamline's flows.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="Another parameter of the flow.")
@click.option("--proposal", default="", help="Folder for a file that is brought in from elsewhere on this machine.")
@click.option("--export-control", is_flag=True, help="The data may not leave the beamline.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the run to its end.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object at the end.")
def run(
    beamline: str,
    path: str,
    flow_name: str,
    changes: Sequence[str],
    proposal: str,
    *,
    export_control: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Take what is at PATH through a flow of BEAMLINE, by its deployment.

    PATH is what acquisition calls it (/global/raw/...), or any file of this machine: that is brought in first. For
    flows that delete it is the path below the root of the endpoint, for those of the archive that of a proposal or of
    a bundle.
    """
    use_environment()
    with open_ledger() as (settings, ledger):
        demand_server()
        intake = Intake.of(beamline, flow_name)
        chosen = dict(map(_change, changes))
        intake.parameters(path, chosen, export_controlled=export_control)  # before anything is brought in
        if not intake.elsewhere:
            place = settings.beamline(beamline)
            path = bring_in(settings, ledger, place, path, proposal=proposal)
        parameters = intake.parameters(path, chosen, export_controlled=export_control)
        controlled = export_control or _flagged(settings, ledger, beamline, path)
        started = start(beamline, flow_name, parameters, name=f"{flow_name}: {path}", export_controlled=controlled)
        finish(settings, ledger, started, scan=os.path.basename(path), wait=wait, as_json=as_json)


def _flagged(settings: Settings, ledger: Ledger, beamline: str, file_path: str) -> bool:
    path = settings.beamline(beamline).relative(file_path)
    try:
        return ledger.scans.get(scan_identity(beamline, path)).export_controlled
    except UnknownName:
        return False


@click.command(short_help="Reconstruct a scan again, with other parameters.")
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
        chosen = checked_parameters(dict(_change(change) for change in changes))
        demand_server()
        parameters: Document = {
            "file_path": found.path.text,
            "parameters": chosen,
            "request": uuid.uuid4().hex[:12],
        }
        name = f"{flow_name}: {found.path.name} again"
        started = start(found.beamline, flow_name, parameters, name=name, export_controlled=found.export_controlled)
        finish(settings, ledger, started, scan=found.path.name, wait=wait, as_json=as_json)


@click.command(short_help="Cancel all that is going on with a scan.")
@click.argument("scan")
@click.option("--whole-batch", is_flag=True, help="Also what is for other scans as well: it is stopped for all.")
@click.option(
    "--give-up", metavar="WHY", help="What nobody confirms is written down as failed: its service is gone for good."
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def cancel(scan: str, give_up: str | None, *, whole_batch: bool, as_json: bool) -> None:
    """Cancel all that is going on with SCAN, here and at the facilities, and say what each answered.

    A run or a transfer that is for other scans as well goes on, and is named with them. Ends with 1 if anything may
    still be going on.
    """
    use_environment()
    with open_ledger() as (settings, ledger), closing(Services(settings)) as services:
        found = ledger.scans.find(scan)
        answers = cancel_scan(ledger, services, found, whole_batch=whole_batch)
        given_up = _give_up(ledger, answers, give_up) if give_up else []
    if as_json:
        told: list[Json] = [each.document() for each in answers]
        click.echo(json.dumps({"scan": found.id, "answers": told, "given_up": given_up}))
    elif not answers:
        click.echo(f"Nothing is going on with {found.path}.")
    else:
        for line in _lines(answers, given_up, scan):
            click.echo(line)
    if not all(each.certain or each.key in given_up for each in answers):
        sys.exit(1)


def _lines(answers: Sequence[Answered], given_up: Collection[str], scan: str) -> Iterator[str]:
    """Of several with the same name, each with the beginning of its key as well."""
    names = Counter(each.what for each in answers)
    for each in answers:
        name = each.what if names[each.what] == 1 else f"{each.what} [{each.key[:8]}]"
        yield f"{name}: {'given up' if each.key in given_up else _came_of(each, scan)}"


def _came_of(each: Answered, scan: str) -> str:
    if each.spared:
        everything = f"`{page.program()} cancel {scan} --whole-batch`"
        return f"goes on: it is for {_these(each.others)}. {everything} stops it for all"
    others = f": it was for {_these(each.others)}" if each.others else ""
    why = f": {each.why}" if each.why else ""
    return _ANSWERS[each.answer] + others + why


def _these(others: Sequence[str]) -> str:
    """``2 others as well (raw/a.h5, raw/b.h5)``"""
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return f"{len(others)} other{'' if len(others) == 1 else 's'} as well ({', '.join(others[:NAMED])}{more})"


def _give_up(ledger: Ledger, answers: Sequence[Answered], why: str) -> list[str]:
    """The keys of what was still open, and is now written down as failed on a person's word; and of its runs."""
    open_to_doubt = [each.key for each in answers if not (each.certain or each.spared)]
    lost = [operation for operation in ledger.operations.among(open_to_doubt) if operation.state.open]
    for operation in lost:
        ledger.operations.abandon(operation.key, Owner.here(), why)
    found = [run for run in map(ledger.runs.get, open_to_doubt) if run is not None]
    runs = [run for run in found if run.state is RunState.CANCELLING and run.dead(ledger.now())]
    for run in runs:
        ledger.runs.cancelled(run.id, Cancelled(f"given up by a person: {why}", where=f"run {run.id}"))
    return [each.key for each in lost] + [run.id for run in runs]


_FOUND = {
    "resumed_runs": "run {run} goes on: what it waited for has ended",
    "dead_runs": "{flow} {run}: {action}",
    "orphans": "{step}, which no run waits for: {fate}",
    "planned_deletions": "{endpoint}:{path}, which its run had left there, has a date of deletion now",
    "renewed_deletions": "{endpoint}:{path} is overdue for deletion, and planned again: {why}",
    "swept_jobs": "{step}: job {job} lived on without it: {answer}",
}
"""What `reconcile` reports, as people read it."""


@click.command(short_help="Start runs again whose process died.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def reconcile(*, as_json: bool) -> None:
    """Find runs whose process is gone without a word, close them, and start them again."""
    use_environment()
    demand_server()
    from orchestration.flows.reconciling import reconcile as reconcile_flow

    report = reconcile_flow()
    if as_json:
        click.echo(json.dumps(report))
        return
    if not report["dead_runs"]:
        click.echo("No run has died.")
    for name, line in _FOUND.items():
        found = report[name]
        for each in found if isinstance(found, list) else ():
            click.echo(line.format(**(each if isinstance(each, dict) else {"run": each})))


def finish(
    settings: Settings,
    ledger: Ledger,
    started: tuple[RunRequest, str],
    *,
    scan: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Follow a run that was started, show what came of it, and end with 1 if it failed."""
    request, run_id = started
    if not wait:
        hint = f"; look at it with `{page.program()} show {scan}`"
        click.echo(json.dumps({"run": run_id}) if as_json else f"started run {run_id} of {request.deployment}{hint}")
        return
    ended = watch(ledger, request, run_id, scan=scan, quiet=as_json)
    record = ledger.runs.get(run_id)
    found = None
    if record is not None and record.scan_id is not None:
        found = overview(ledger, ledger.scans.get(record.scan_id))
    error = _why(ended, found)
    if as_json:
        click.echo(json.dumps(_summary(settings, run_id, found, error)))
    elif found is not None:
        write_scan(page.terminal(), settings, found)
    elif error is None:
        click.echo(f"run {run_id} of {request.deployment} has completed: its log in Prefect says what it did")
    if error is not None:
        if found is None or found.error is None:
            console = page.terminal(err=True)
            page.write(console, page.error_block(error, console))
        sys.exit(1)


def _why(ended: object, found: Overview | None) -> OrchestrationError | None:
    """The error of the scan itself rather than that of the run that waited for it."""
    if not isinstance(ended, Failed):
        return None
    return found.error if found is not None and found.error is not None else ended.error


def _summary(
    settings: Settings, run_id: str, found: Overview | None, error: OrchestrationError | None
) -> dict[str, object]:
    scan = {} if found is None else found.document()
    shown = [] if found is None else [str(path) for path in pictures(settings, found)]
    return {**scan, "run": run_id, "pictures": shown, "failed": None if error is None else error.sentence}


def _change(text: str) -> tuple[str, Json]:
    """``center=297.5`` with the value as YAML reads it."""
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    return name.strip().replace("-", "_"), _value(value)


def _value(text: str) -> Json:
    """YAML takes 1e3 for a word, and people mean a number; what is no YAML at all is a word."""
    try:
        found: Json = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(found, str):
        try:
            return float(found)
        except ValueError:
            return found
    return found
