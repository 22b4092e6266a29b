"""What this service itself costs: whole flows where the outside world answers at once.

``python benchmarks/overhead.py --json`` starts stand-ins and a Prefect server, and times the flows of 8.3.2 on a 10 MB
file, from the creation of the run to Completed, in a process that has already imported everything.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import httpx

from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.overview import overview
from orchestration.ledger.service import Document
from orchestration.sandbox.trials.audit import ALCF_FLOW, LOCAL_FLOW, NERSC_FLOW, NEW_FILE_FLOW
from orchestration.sandbox.trials.nursery import Nursery
from orchestration.sandbox.trials.world import BEAMLINE, DELETIONS, World

TARGETS = {
    NEW_FILE_FLOW: "orchestration.flows.bl832.move:process_new_832_file_flow",
    LOCAL_FLOW: "orchestration.flows.bl832.local:local_recon_flow",
    NERSC_FLOW: "orchestration.flows.bl832.nersc:nersc_recon_flow",
    ALCF_FLOW: "orchestration.flows.bl832.alcf:alcf_recon_flow",
}

SIZE = 10_000_000
TARGETS_SECONDS = {NEW_FILE_FLOW: 3.0, LOCAL_FLOW: 3.0, NERSC_FLOW: 10.0, ALCF_FLOW: 10.0}


@dataclass(frozen=True)
class Stage:
    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One flow. What no stage accounts for (Prefect's states, the ledger's other records) is the last stage."""

    overhead_seconds: float
    known_after_seconds: float | None
    """From the end of the job at its site to the flow's knowing it; None for a flow without a job."""
    stages: tuple[Stage, ...]


class Overhead:
    def __init__(self, world: World, nursery: Nursery) -> None:
        self._world = world
        self._nursery = nursery

    def time(self, flow: str, file_path: str) -> Timing:
        ended = self._nursery.run(TARGETS[flow], {"file_path": file_path})
        if not ended.completed:
            raise click.ClickException(f"{flow} did not complete: {ended.error or ended.error_type}")
        with self._world.ledger() as ledger:
            found = overview(ledger, ledger.scans.find(file_path.removeprefix("/global/")))
        run = next(run for run in found.runs if run.flow == flow)
        total = self._seconds(run.id)
        mine = [one for one in found.operations if one.began_at >= run.started_at]
        stages = [Stage(one.step, round(one.seconds or 0.0, 3)) for one in mine]
        rest = total - sum(stage.seconds for stage in stages)
        known = next((_known_after(one) for one in mine if "outputs" in (one.evidence or {})), None)
        return Timing(
            overhead_seconds=round(total, 3),
            known_after_seconds=known,
            stages=(*stages, Stage("all else", round(rest, 3))),
        )

    def _seconds(self, run: str) -> float:
        """From its creation to its end, as Prefect's server says."""
        with httpx.Client(base_url=self._world.prefect_url, timeout=30.0, trust_env=False) as client:
            found: dict[str, Any] = client.get(f"/flow_runs/{run}").raise_for_status().json()
        return _moment(found["end_time"]) - _moment(found["created"])


def _known_after(job: OperationRecord) -> float:
    """By the clock of this machine, on which all the sites of a trial are."""
    evidence = job.evidence or {}
    began, lasted, folder = (evidence.get(name) for name in ("started_at", "seconds", "folder"))
    if isinstance(began, float) and isinstance(lasted, float):
        ended = began + lasted
    else:
        ended = (Path(str(folder)) / "exit.json").stat().st_mtime
    return round((job.finished_at or 0.0) - ended, 3)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def measure(directory: Path, repeats: int, tell: Callable[[str], None]) -> dict[str, Timing]:
    """The median run of each flow, the first left out: it also opens the ledger."""
    with World(directory) as world, world.nursery() as nursery:
        names: Document = {"beamline": BEAMLINE, "names": [*DELETIONS]}
        nursery.run("orchestration.sandbox.trials.deployments:make", names)
        overhead = Overhead(world, nursery)
        runs: dict[str, list[Timing]] = {flow: [] for flow in TARGETS}
        for number in range(repeats + 1):
            file_path = world.scan(f"overhead{number}.h5", size=SIZE)
            for flow in TARGETS:
                timing = overhead.time(flow, file_path)
                tell(f"{flow}: {timing.overhead_seconds:.2f} s{' (warming up)' if number == 0 else ''}")
                if number:
                    runs[flow].append(timing)
    return {flow: _median(timings) for flow, timings in runs.items()}


def _median(timings: list[Timing]) -> Timing:
    middle = statistics.median_low(timing.overhead_seconds for timing in timings)
    return next(timing for timing in timings if timing.overhead_seconds == middle)


@click.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def main(repeats: int, *, as_json: bool) -> None:
    """Time the flows of 8.3.2 where the outside world takes no time."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as temporary:
        found = measure(Path(temporary) / "world", repeats, lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(json.dumps({flow: asdict(timing) for flow, timing in found.items()}))
        return
    for flow, timing in found.items():
        click.echo(f"{flow}: {timing.overhead_seconds:.2f} s (target below {TARGETS_SECONDS[flow]:.0f} s)")
        if timing.known_after_seconds is not None:
            click.echo(f"  the end of the job was known after {timing.known_after_seconds:.2f} s (target below 2 s)")
        for stage in timing.stages:
            click.echo(f"  {stage.seconds:7.3f} s  {stage.name}")


if __name__ == "__main__":
    main()
