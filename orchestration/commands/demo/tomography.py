"""A scan of tomography, from the detector to a picture."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.text import Text

from orchestration.commands import page
from orchestration.commands.demo.vicinity import Vicinity, run_program
from orchestration.commands.following import watch
from orchestration.commands.page import Cell
from orchestration.commands.scans import open_ledger, pictures, write_scan
from orchestration.config import Settings
from orchestration.flows.starting import start
from orchestration.ledger.operation import OperationState
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.service import Failed

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


def show(vicinity: Vicinity, size: ScanSize) -> None:
    """All of the demo. Exits with 1 if it did not get there."""
    try:
        summary, found, settings = _demo(vicinity, size)
    finally:
        vicinity.leave()
    console, name = vicinity.progress.console, page.program()
    console.print()
    write_scan(console, settings, found, brief=True)
    commands = ["scans", "show demo", "rerun demo --set filter=hann", "sandbox down"]
    hints = vicinity.farewell(f"{name} {command}" for command in commands)
    page.write(console, ["", *_outcome(summary), "", *hints])
    vicinity.end(summary)


def _demo(vicinity: Vicinity, size: ScanSize) -> tuple[dict[str, object], Overview, Settings]:
    vicinity.begin()
    progress = vicinity.progress
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
        ended = watch(ledger, request, run_id, scan=name, quiet=vicinity.as_json)
        elapsed = time.monotonic() - began
        progress.part("all of it", elapsed)
        found = overview(ledger, ledger.scans.find(path))
        quality = {} if isinstance(ended, Failed) else _compare(settings, found, file)
        return _summary(vicinity, found, settings, elapsed, quality), found, settings


def _detector(file: Path, size: ScanSize) -> None:
    run_program(
        ["orchestration.sandbox.detector"],
        out=file,
        size=size.size,
        height=size.size,
        angles=size.angles,
        photons=size.photons,
        center_offset=CENTER_OFFSET,
        proposal=PROPOSAL,
    )


def _compare(settings: Settings, found: Overview, file: Path) -> dict[str, object]:
    result = found.results[-1]
    folder = settings.endpoint(result.endpoint).local_path(result.path)
    answer = run_program(["orchestration.science", "tomography", "compare", str(folder)], scan=file)
    compared: dict[str, object] = json.loads(answer)
    return compared


def _summary(
    vicinity: Vicinity, found: Overview, settings: Settings, elapsed: float, quality: dict[str, object]
) -> dict[str, object]:
    done = [operation for operation in found.operations if operation.state is OperationState.SUCCEEDED]
    own = [operation for operation in done if operation.service != CHILD_STAGES]
    stages = [{"name": operation.step, "seconds": round(operation.seconds or 0.0, 3)} for operation in own]
    pids = [operation for operation in done if operation.service == "scicat.ingest"]
    reconstruct = next((operation for operation in own if operation.service == "local.jobs"), None)
    return {
        "scan": found.scan.id,
        "state": found.state.value,
        "stages": [*vicinity.progress.stages, *stages],
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
        "urls": vicinity.urls,
    }


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


def _slices(found: Overview) -> int | None:
    """How many the reconstruction has; None if there is none."""
    shape = found.results[-1].receipt.quality.get("result") if found.results else None
    rows = shape.get("shape") if isinstance(shape, dict) else None
    return int(str(rows[0])) if isinstance(rows, list) and rows else None
