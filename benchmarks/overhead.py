"""What this service itself costs: whole flows where the outside world answers at once.

``python benchmarks/overhead.py --json`` starts stand-ins and a Prefect server, and times the flows of 8.3.2 on a 10 MB
file, from the creation of the run to Completed, in a process that has already imported everything. Then a job of
``--long`` seconds runs at each site, and is measured how soon its flow knows of its end. It ends with 1 if a target is
missed.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import httpx
import yaml

from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.overview import overview
from orchestration.ledger.service import Document, Json
from orchestration.sandbox.trials.audit import ALCF_FLOW, ANY_FLOW, LOCAL_FLOW, NERSC_FLOW, NEW_FILE_FLOW
from orchestration.sandbox.trials.nursery import Child, Nursery
from orchestration.sandbox.trials.program import PAUSE
from orchestration.sandbox.trials.world import BEAMLINE, DELETIONS, World


@dataclass(frozen=True)
class Measured:
    """A flow, and what it may cost."""

    flow: str
    target: str
    seconds: float
    site: str = ""
    """For the flow that goes anywhere."""

    @property
    def name(self) -> str:
        return f"{self.flow} at {self.site}" if self.site else self.flow

    def arguments(self, file_path: str) -> dict[str, Json]:
        return {"file_path": file_path, **({"site": self.site} if self.site else {})}


MOVE = Measured(NEW_FILE_FLOW, "orchestration.flows.bl832.move:process_new_832_file_flow", 3.0)
RECONSTRUCTIONS = (
    Measured(LOCAL_FLOW, "orchestration.flows.bl832.local:local_recon_flow", 3.0),
    Measured(NERSC_FLOW, "orchestration.flows.bl832.nersc:nersc_recon_flow", 10.0),
    Measured(ALCF_FLOW, "orchestration.flows.bl832.alcf:alcf_recon_flow", 10.0),
    Measured(ANY_FLOW, "orchestration.flows.bl832.anywhere:any_recon_flow", 10.0, site="iri"),
)
ALL = (MOVE, *RECONSTRUCTIONS)

SIZE = 10_000_000
KNOWN_SECONDS = 2.0
"""From the end of a job of less than a minute to the flow's knowing it."""
KNOWN_SHARE = 0.03
"""Of the time of a longer job."""


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
    job_seconds: float | None
    stages: tuple[Stage, ...]

    @property
    def known_in_time(self) -> bool:
        if self.known_after_seconds is None or self.job_seconds is None:
            return True
        share = KNOWN_SHARE * self.job_seconds
        return self.known_after_seconds < (KNOWN_SECONDS if self.job_seconds < 60.0 else share)


@dataclass(frozen=True, kw_only=True)
class Report:
    at_once: dict[str, Timing]
    """By flow: the median of its runs."""
    long: dict[str, Timing]

    @property
    def missed(self) -> list[str]:
        """The targets that were not kept."""
        slow = [
            f"{each.name}: {self.at_once[each.name].overhead_seconds} s, not below {each.seconds:.0f} s"
            for each in ALL
            if self.at_once[each.name].overhead_seconds >= each.seconds
        ]
        late = [
            f"{name}: the end of a job of {timing.job_seconds} s was known after {timing.known_after_seconds} s"
            for name, timing in [*self.at_once.items(), *self.long.items()]
            if not timing.known_in_time
        ]
        return slow + late


class Overhead:
    def __init__(self, world: World, nursery: Nursery) -> None:
        self._world = world
        self._nursery = nursery

    def time(self, measured: Measured, file_path: str) -> Timing:
        return self._timing(measured, file_path, self._nursery.start(measured.target, measured.arguments(file_path)))

    def time_long(self, file_path: str, seconds: float) -> dict[str, Timing]:
        """A job of so many seconds at each site, at the same time."""
        pause = self._world.jobs_log.with_name(PAUSE)
        pause.touch()
        try:
            children = [self._nursery.start(each.target, each.arguments(file_path)) for each in RECONSTRUCTIONS]
            self._wait_for_jobs(len(children))
            threading.Event().wait(seconds)
        finally:
            pause.unlink()
        return {
            each.name: self._timing(each, file_path, child)
            for each, child in zip(RECONSTRUCTIONS, children, strict=True)
        }

    def _wait_for_jobs(self, number: int) -> None:
        log = self._world.jobs_log
        before = len(log.read_text().splitlines())
        for _ in range(600):
            if len(log.read_text().splitlines()) == before + number:
                return
            threading.Event().wait(0.1)
        raise click.ClickException("not all jobs began")

    def _timing(self, measured: Measured, file_path: str, child: Child) -> Timing:
        ended = child.wait()
        if not ended.completed:
            raise click.ClickException(f"{measured.name} did not complete: {ended.error or ended.error_type}")
        with self._world.ledger() as ledger:
            found = overview(ledger, ledger.scans.find(file_path.removeprefix("/global/")))
        run = next(run for run in found.runs if run.flow == measured.flow)
        total = self._seconds(run.id)
        mine = [one for one in found.operations if one.run_id == run.id]
        stages = [Stage(one.step, round(one.seconds or 0.0, 3)) for one in mine]
        rest = total - sum(stage.seconds for stage in stages)
        job = next((one for one in mine if "outputs" in (one.evidence or {})), None)
        known_after, lasted = (None, None) if job is None else _times(job)
        return Timing(
            overhead_seconds=round(total, 3),
            known_after_seconds=known_after,
            job_seconds=lasted,
            stages=(*stages, Stage("all else", round(rest, 3))),
        )

    def _seconds(self, run: str) -> float:
        """From its creation to its end, as Prefect's server says."""
        with httpx.Client(base_url=self._world.prefect_url, timeout=30.0, trust_env=False) as client:
            found: dict[str, Any] = client.get(f"/flow_runs/{run}").raise_for_status().json()
        return _moment(found["end_time"]) - _moment(found["created"])


def _times(job: OperationRecord) -> tuple[float, float]:
    """How long after its end it was known, and how long it lasted: the clock of this machine is that of all sites."""
    evidence = job.evidence or {}
    began, lasted, folder = (evidence.get(name) for name in ("started_at", "seconds", "folder"))
    if not isinstance(began, float) or not isinstance(lasted, float):
        began = job.submitted_at or job.began_at
        lasted = (Path(str(folder)) / "exit.json").stat().st_mtime - began
    return round((job.finished_at or 0.0) - began - lasted, 3), round(lasted, 3)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _as_shipped(world: World) -> None:
    """The sandbox asks its sites more often than a facility is asked."""
    path = world.layout.config_file
    document = yaml.safe_load(path.read_text())
    for site in document["compute_sites"].values():
        site.pop("poll_seconds", None)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def measure(directory: Path, repeats: int, long: float, tell: Callable[[str], None]) -> Report:
    """The median run of each flow, the first left out: it also opens the ledger."""
    with World(directory) as world, world.nursery() as nursery:
        names: Document = {"beamline": BEAMLINE, "names": [*DELETIONS]}
        nursery.run("orchestration.sandbox.trials.deployments:make", names)
        _as_shipped(world)
        overhead = Overhead(world, nursery)
        runs: dict[str, list[Timing]] = {each.name: [] for each in ALL}
        for number in range(repeats + 1):
            file_path = world.scan(f"overhead{number}.h5", size=SIZE)
            for each in ALL:
                timing = overhead.time(each, file_path)
                tell(f"{each.name}: {timing.overhead_seconds:.2f} s{' (warming up)' if number == 0 else ''}")
                if number:
                    runs[each.name].append(timing)
        file_path = world.scan("overhead_long.h5", size=SIZE)
        overhead.time(MOVE, file_path)
        waited = overhead.time_long(file_path, long) if long else {}
    return Report(at_once={name: _median(timings) for name, timings in runs.items()}, long=waited)


def _median(timings: list[Timing]) -> Timing:
    middle = statistics.median_low(timing.overhead_seconds for timing in timings)
    return next(timing for timing in timings if timing.overhead_seconds == middle)


@click.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--long", default=90.0, show_default=True, help="Seconds of a long job; 0 for none.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def main(repeats: int, long: float, *, as_json: bool) -> None:
    """Time the flows of 8.3.2 where the outside world takes no time, and how soon they know of the end of a job."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as temporary:
        found = measure(Path(temporary) / "world", repeats, long, lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(json.dumps({**asdict(found), "missed": found.missed}))
    else:
        _tell(found)
    sys.exit(1 if found.missed else 0)


def _tell(found: Report) -> None:
    for each in ALL:
        timing = found.at_once[each.name]
        click.echo(f"{each.name}: {timing.overhead_seconds:.2f} s (target below {each.seconds:.0f} s)")
        if timing.known_after_seconds is not None:
            late = f"{timing.known_after_seconds:.2f} s (target below {KNOWN_SECONDS:.0f} s)"
            click.echo(f"  the end of the job was known after {late}")
        for stage in timing.stages:
            click.echo(f"  {stage.seconds:7.3f} s  {stage.name}")
    for name, timing in found.long.items():
        share = (timing.known_after_seconds or 0.0) / (timing.job_seconds or 1.0)
        known = f"{timing.known_after_seconds:.2f} s, {share:.1%} (target below {KNOWN_SHARE:.0%})"
        click.echo(f"{name}: the end of a job of {timing.job_seconds:.0f} s was known after {known}")
    for missed in found.missed:
        click.echo(f"missed: {missed}")


if __name__ == "__main__":
    main()
