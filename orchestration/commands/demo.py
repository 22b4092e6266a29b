"""`beamline demo`: one simulated scan through the whole of it, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from orchestration import config
from orchestration.commands import page
from orchestration.commands.following import watch
from orchestration.commands.page import Cell
from orchestration.commands.scans import open_ledger, pictures, write_scan
from orchestration.config import Settings
from orchestration.config.environment import ENV_FILES
from orchestration.errors import JobFailed
from orchestration.flows.main import use_environment
from orchestration.flows.starting import start
from orchestration.ledger.operation import OperationState
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.service import Failed
from orchestration.sandbox.layout import DEFAULT
from orchestration.sandbox.supervisor import Supervisor

BEAMLINE = "bl832"
PROPOSAL = "ALS-00000"
CENTER_OFFSET = 5.3
"""Of the rotation axis from the middle of the detector, in pixels: there is something to be found."""
CHILD_STAGES = "prefect.run"
"""Stages that are whole runs of other flows: their own stages are listed too."""


@dataclass(frozen=True, kw_only=True)
class ScanSize:
    """What the simulated detector takes: a cube of `size` pixels, `angles` projections, `photons` per pixel or 0."""

    size: int
    angles: int
    photons: int


@dataclass
class Demo:
    """What came of it, as it comes."""

    console: Console
    stages: list[dict[str, object]] = field(default_factory=list)

    def say(self, text: str) -> None:
        page.write(self.console, [Text(text, style=page.HEAD)])

    def part(self, name: str, seconds: float) -> None:
        page.write(self.console, [f"  {seconds:7.1f} s  {name}" if seconds else f"        -    {name} (runs already)"])

    def timed(self, name: str, began: float) -> None:
        seconds = round(time.monotonic() - began, 3)
        self.stages.append({"name": name, "seconds": seconds})
        self.part(name, seconds)


@click.command(short_help="Take one simulated scan through all of it.")
@click.option("--size", default=512, show_default=True, type=click.IntRange(32, 4096), help="Width and height, pixels.")
@click.option("--angles", default=360, show_default=True, type=click.IntRange(16, 10000), help="Projections.")
@click.option("--photons", default=0, show_default=True, type=click.IntRange(0), help="Per open pixel; 0: no noise.")
@click.option("--exit", "stop", is_flag=True, help="Stop the sandbox at the end.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object at the end; all else goes to stderr.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: os.environ.get("BEAMLINE_SANDBOX") or DEFAULT,
    show_default=str(DEFAULT),
    help="Directory of the sandbox.",
)
def demo(size: int, angles: int, photons: int, state: Path, *, stop: bool, as_json: bool) -> None:
    """Take a simulated scan from the detector to a picture, and show what became of it.

    Ends with 1 if it did not get there.
    """
    console = page.terminal(err=as_json)
    supervisor = Supervisor(state)
    progress = Demo(console)
    elsewhere = _leads_elsewhere(supervisor)
    try:
        summary, found, settings = _demo(
            progress, supervisor, ScanSize(size=size, angles=angles, photons=photons), quiet=as_json
        )
    finally:
        if stop:
            supervisor.down()
    console.print()
    write_scan(console, settings, found, brief=True)
    page.write(console, ["", *_outcome(summary), "", *_farewell(supervisor, stopped=stop, elsewhere=elsewhere)])
    if as_json:
        click.echo(json.dumps(summary))
    if summary["state"] != "completed":
        sys.exit(1)


def _demo(
    progress: Demo, supervisor: Supervisor, size: ScanSize, *, quiet: bool
) -> tuple[dict[str, object], Overview, Settings]:
    progress.say("Starting a facility on this machine")
    began = time.monotonic()
    supervisor.up(progress.part)
    progress.timed("start the sandbox", began)
    use_sandbox(supervisor)
    with open_ledger() as (settings, ledger):
        acquisition = settings.endpoint(settings.beamline(BEAMLINE).acquisition)
        name = f"demo_{datetime.now().astimezone():%Y%m%d_%H%M%S}.h5"
        path = f"raw/demo/{name}"
        file = Path(str(acquisition.mount)) / path
        progress.say(f"Taking a scan of {size.size} x {size.size} pixels, {size.angles} projections")
        began = time.monotonic()
        _detector(file, size)
        progress.timed("take the scan", began)
        progress.say("Carrying it from the detector to a picture")
        began = time.monotonic()
        request, run_id = start(BEAMLINE, "dispatcher", {"file_path": f"/global/{path}"}, name=f"dispatcher: {name}")
        ended = watch(ledger, request, run_id, scan=name, quiet=quiet)
        elapsed = time.monotonic() - began
        progress.part("all of it", elapsed)
        found = overview(ledger, ledger.scans.find(path))
        quality = {} if isinstance(ended, Failed) else _compare(settings, found, file)
        return _summary(progress, supervisor, found, settings, elapsed, quality), found, settings


def use_sandbox(supervisor: Supervisor) -> None:
    """Let this process see the sandbox, whatever its own environment points to."""
    os.environ.update(supervisor.environment)
    use_environment()


def _leads_elsewhere(supervisor: Supervisor) -> bool:
    """Whether other commands, as this one was started, would look at something else than the sandbox of the demo."""
    if os.environ.get("BEAMLINE_SANDBOX") == str(supervisor.layout.root):
        return False
    found = config.environment_file()
    ours = supervisor.layout.environment_file
    return (found or ENV_FILES[-1]).absolute() != ours or "BEAMLINE_CONFIG" in os.environ


def _detector(file: Path, size: ScanSize) -> None:
    options = {
        "out": file,
        "size": size.size,
        "height": size.size,
        "angles": size.angles,
        "photons": size.photons,
        "center-offset": CENTER_OFFSET,
        "proposal": PROPOSAL,
    }
    _run(["orchestration.sandbox.detector", *(f"--{name}={value}" for name, value in options.items())])


def _compare(settings: Settings, found: Overview, file: Path) -> dict[str, object]:
    result = found.results[-1]
    folder = settings.endpoint(result.endpoint).local_path(result.path)
    answer = _run(["orchestration.science", "tomography", "compare", str(folder), "--scan", str(file)])
    compared: dict[str, object] = json.loads(answer)
    return compared


def _run(module: list[str]) -> str:
    done = subprocess.run([sys.executable, "-m", *module], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise JobFailed(
            f"{module[0]} ended with {done.returncode}: {done.stderr.strip()[-400:]}",
            where="demo",
            next_step="read the message above; report it if it is not about this machine",
        )
    return done.stdout


def _summary(
    progress: Demo,
    supervisor: Supervisor,
    found: Overview,
    settings: Settings,
    elapsed: float,
    quality: dict[str, object],
) -> dict[str, object]:
    done = [operation for operation in found.operations if operation.state is OperationState.SUCCEEDED]
    own = [operation for operation in done if operation.service != CHILD_STAGES]
    stages = [{"name": operation.step, "seconds": round(operation.seconds or 0.0, 3)} for operation in own]
    pids = [operation for operation in done if operation.service == "scicat.ingest"]
    reconstruct = next((operation for operation in own if operation.service == "local.jobs"), None)
    return {
        "scan": found.scan.id,
        "state": found.state.value,
        "stages": [*progress.stages, *stages],
        "overhead_seconds": round(elapsed - sum(operation.seconds or 0.0 for operation in own), 2),
        "reconstruction": {
            "relative_l2": quality.get("relative_l2"),
            "center_error_px": quality.get("center_error_px"),
            "slices": _slices(found),
            "seconds": None if reconstruct is None else round(reconstruct.seconds or 0.0, 2),
            "pictures": [str(path) for path in pictures(settings, found)],
        },
        "catalogue": {
            "raw": sum("raw" in operation.step for operation in pids),
            "derived": sum("raw" not in operation.step for operation in pids),
        },
        "prunes_scheduled": sum(operation.service == "prefect.schedule" for operation in done),
        "urls": _urls(supervisor),
    }


def _urls(supervisor: Supervisor) -> dict[str, str]:
    environment = supervisor.environment
    prefect = environment["PREFECT_API_URL"].removesuffix("/api")
    catalogue = environment["SCICAT_API_URL"].partition("/scicat/")[0] + "/catalogue"
    return {"prefect": prefect, "catalogue": catalogue}


def _outcome(summary: dict[str, object]) -> list[Text]:
    reconstruction, catalogue, urls = summary["reconstruction"], summary["catalogue"], summary["urls"]
    if not isinstance(reconstruction, dict) or not isinstance(catalogue, dict) or not isinstance(urls, dict):
        raise TypeError("the summary of the demo has another shape")
    rows: list[tuple[str, Cell]] = [
        ("state", page.state(str(summary["state"]))),
        ("error of the slices", _percent(reconstruction["relative_l2"])),
        ("error of the center", _pixels(reconstruction["center_error_px"])),
        ("catalogue", f"{catalogue['raw']} raw record, {catalogue['derived']} derived from it"),
        ("deletions", f"{summary['prunes_scheduled']} in the calendar, each under proof of another copy"),
        ("own overhead", f"{summary['overhead_seconds']} s besides what the stages themselves took"),
        ("runs", urls["prefect"]),
        ("records", urls["catalogue"]),
    ]
    return page.columns([(Text(name, style=page.HEAD), value) for name, value in rows])


def _percent(value: object) -> str:
    return f"{100 * value:.1f} % against the phantom, inside the circle" if isinstance(value, float) else "not measured"


def _pixels(value: object) -> str:
    return f"{abs(value):.2f} pixels" if isinstance(value, float) else "not measured"


def _farewell(supervisor: Supervisor, *, stopped: bool, elsewhere: bool) -> list[str]:
    name = page.program()
    if stopped:
        return ["The sandbox is stopped. What was taken is still there when it starts again."]
    lines = ["The sandbox is still running. Look around, and stop it when you have seen enough:"]
    if elsewhere:
        lines.append(f"  set -a; . {supervisor.layout.environment_file}; set +a")
    commands = ["scans", "show demo", "rerun demo --set filter=hann", "sandbox down"]
    return lines + [f"  {name} {command}" for command in commands]


def _slices(found: Overview) -> int | None:
    """How many the reconstruction has; None if there is none."""
    shape = found.results[-1].receipt.quality.get("result") if found.results else None
    rows = shape.get("shape") if isinstance(shape, dict) else None
    return int(str(rows[0])) if isinstance(rows, list) and rows else None
