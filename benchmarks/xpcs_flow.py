"""What an XPCS run costs besides moving, queueing and computing: ``python benchmarks/xpcs_flow.py --json``.

Takes simulated datasets through the online flow, with the real programs on this machine and stand-ins of everything
else, in a process that has imported everything. Ends with 1 if what is neither transfer nor science takes 5 s or more;
the flows that this one follows spent 63 of 134 s on such steps, and 28 s on pictures.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import yaml

from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.overview import overview
from orchestration.sandbox.trials.nursery import Nursery
from orchestration.sandbox.trials.world import World
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.simulate import write_metadata, write_qmap, write_raw

FLOW = "orchestration.flows.aps8idi.online:xpcs_online_flow"
DELETIONS = ("prune_local8idi_raw", "prune_local8idi_scratch")
EXPERIMENT = "2026-3/benchmark"
TARGET_SECONDS = 5.0


@dataclass(frozen=True)
class Stage:
    name: str
    kind: str
    """``transfer``, ``science``, or ``own``."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One run; `rest` is what no stage accounts for (Prefect's states, looks at files, the ledger)."""

    seconds: float
    stages: tuple[Stage, ...]

    def of(self, kind: str) -> float:
        return round(sum(stage.seconds for stage in self.stages if stage.kind == kind), 2)

    @property
    def rest(self) -> float:
        return round(self.seconds - sum(stage.seconds for stage in self.stages), 2)

    @property
    def own(self) -> float:
        """All that is neither transfer nor science."""
        return round(self.of("own") + self.rest, 2)


def time_run(world: World, nursery: Nursery, folder: Path, name: str) -> Timing:
    source = world.root("aps8idi")
    raw = f"/gdata/dm/8IDI/{folder.relative_to(source)}/{name}.h5"
    began = time.monotonic()
    ended = nursery.run(FLOW, {"raw": raw, "qmap": f"/gdata/dm/8IDI/{EXPERIMENT}/qmap.hdf"})
    seconds = time.monotonic() - began
    if not ended.completed:
        raise click.ClickException(f"the run did not complete: {ended.error or ended.error_type}")
    with world.ledger() as ledger:
        found = overview(ledger, ledger.scans.find(str(folder.relative_to(source))))
    operations = sorted(found.operations, key=lambda one: one.began_at)
    return Timing(seconds=round(seconds, 2), stages=tuple(map(_stage, operations)))


def _stage(operation: OperationRecord) -> Stage:
    kinds = {"transfer": "transfer", "jobs": "science"}
    kind = kinds.get(operation.service.partition("@")[0].rpartition(".")[2], "own")
    return Stage(operation.step, kind, round(operation.seconds or 0.0, 2))


@contextmanager
def _world(folder: Path) -> Iterator[tuple[World, Nursery]]:
    with World(folder, real=True) as world:
        settings = yaml.safe_load(world.layout.config_file.read_text())
        settings["xpcs"]["settle_seconds"] = 0.0  # the detector's own time
        world.layout.config_file.write_text(yaml.safe_dump(settings, sort_keys=False))
        with world.nursery(FLOW.partition(":")[0]) as nursery:
            made = nursery.run(
                "orchestration.sandbox.trials.deployments:make", {"beamline": "aps8idi", "names": [*DELETIONS]}
            )
            if not made.completed:
                raise click.ClickException(f"no deployments: {made.error or made.error_type}")
            yield world, nursery


def measure(folder: Path, movie: MovieDescription, repeats: int) -> Timing:
    """The median run of those that began after the first: that one also opens the ledger, and compiles."""
    with _world(folder / "world") as (world, nursery):
        experiment = world.root("aps8idi") / EXPERIMENT
        experiment.mkdir(parents=True)
        write_qmap(experiment / "qmap.hdf", movie, rings=9)
        timings = []
        for number in range(repeats + 1):
            dataset = experiment / "data" / f"a{number:02}"
            dataset.mkdir(parents=True)
            write_raw(dataset / f"a{number:02}.h5", movie, "nexus")
            write_metadata(dataset / f"a{number:02}_metadata.hdf", movie)
            timings.append(time_run(world, nursery, dataset, f"a{number:02}"))
        return sorted(timings[1:], key=lambda timing: timing.seconds)[(repeats - 1) // 2]


@click.command()
@click.option("--frames", default=2000, show_default=True, type=click.IntRange(64))
@click.option("--size", default=256, show_default=True, type=click.IntRange(32), help="Width and height, pixels.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def main(frames: int, size: int, repeats: int, *, as_json: bool) -> None:
    """Time the XPCS online flow, stage by stage."""
    movie = MovieDescription(rows=size, columns=size, frames=frames, photons=0.1)
    with tempfile.TemporaryDirectory(prefix="beamline-benchmark-") as folder:
        timing = measure(Path(folder), movie, repeats)
    kinds = {kind: timing.of(kind) for kind in ("transfer", "science", "own")}
    if as_json:
        document = {**asdict(timing), **kinds, "rest": timing.rest, "overhead_seconds": timing.own}
        click.echo(json.dumps({**document, "target_seconds": TARGET_SECONDS}))
    else:
        for stage in timing.stages:
            click.echo(f"{stage.seconds:8.2f} s  {stage.kind:8}  {stage.name}")
        click.echo(f"{timing.rest:8.2f} s  own       all else")
        click.echo(f"{timing.own:8.2f} s of {timing.seconds:.2f} s are neither transfer nor science")
    sys.exit(timing.own >= TARGET_SECONDS)


if __name__ == "__main__":
    main()
