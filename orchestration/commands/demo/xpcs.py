"""`beamline demo xpcs`: a series of speckle movies through the flows of 8-ID, and one of them once more."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import click
from rich.text import Text

from orchestration.commands import page
from orchestration.commands.demo.records import Passage, Record
from orchestration.commands.demo.series import COARSE, FINE, Experiment, Movie, truth
from orchestration.commands.demo.vicinity import Vicinity, sandbox_options
from orchestration.commands.following import watch
from orchestration.commands.page import Cell
from orchestration.commands.scans import open_ledger, write_scan
from orchestration.config import Settings
from orchestration.flows.starting import start
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationState
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.service import Document, Failed

SUFFIX = "_fine"
OVERVIEW = "_overview.png"
CLIENT = Path("scripts") / "xpcs_batch_client.py"
"""Of a checkout, with which a whole experiment is correlated."""


@click.command(short_help="Take simulated speckle movies through the flows of 8-ID.")
@click.option("--frames", default=2000, show_default=True, type=click.IntRange(256, 100_000), help="Of each movie.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(64, 2048), help="Width and height, pixels.")
@click.option(
    "--photons", default=0.2, show_default=True, type=click.FloatRange(0.01, 100.0), help="Mean of a pixel in a frame."
)
@click.option("--datasets", default=1, show_default=True, type=click.IntRange(1, 100), help="How many movies.")
@sandbox_options
def xpcs(frames: int, size: int, photons: float, datasets: int, state: Path, *, stop: bool, as_json: bool) -> None:
    """Correlate simulated speckle, publish it, and correlate it again with other q-bins.

    Each movie goes through xpcs_online_flow, and the first of them through xpcs_reprocess_flow as well. Decay and
    contrast are known, and compared with what is found. Ends with 1 if it did not get there.
    """
    vicinity = Vicinity.of(state, stop=stop, as_json=as_json)
    try:
        vicinity.begin()
        with open_ledger() as (settings, ledger):
            demo = XpcsDemo(vicinity, settings, ledger, Movie(frames=frames, size=size, photons=photons))
            demo.take_all(datasets)
    finally:
        vicinity.leave()
    demo.show()


class XpcsDemo:
    """One demo, and what has come of it so far."""

    def __init__(self, vicinity: Vicinity, settings: Settings, ledger: Ledger, movie: Movie) -> None:
        self._vicinity = vicinity
        self._settings = settings
        self._ledger = ledger
        self._movie = movie
        self._now = datetime.now().astimezone()
        self._experiment = Experiment(settings, self._now)
        self._scans: dict[str, Overview] = {}
        self._records: list[Record] = []
        self._qmap = ""
        """The last one that was used: with it, not all datasets have been correlated."""

    def take_all(self, count: int) -> None:
        """Up to the first that fails: what it says is worth more than that others fail as well."""
        for number in range(1, count + 1):
            self._take(f"xpcs_{self._now:%Y%m%d_%H%M%S}_{number}", seed=number)
            if not self._complete:
                return
        self._once_more()

    def show(self) -> None:
        """Say what came of it. Exits with 1 if it did not get there."""
        console, summary = self._vicinity.progress.console, self._summary()
        for found in self._scans.values():
            console.print()
            write_scan(console, self._settings, found, brief=True)
        page.write(console, ["", *self._outcome(summary), *self._pictures()])
        page.write(console, ["", *self._vicinity.farewell(self._hints())])
        self._vicinity.end(summary)

    @property
    def _complete(self) -> bool:
        return bool(self._records) and all(record.complete for record in self._records)

    # ----- what happens ---------------------------------------------------------------------------------------------

    def _take(self, dataset: str, *, seed: int) -> None:
        progress, movie = self._vicinity.progress, self._movie
        progress.say(
            f"Taking {movie.frames} frames of {movie.size} x {movie.size} pixels, {movie.photons:g} photons each"
        )
        progress.note(f"put in: decay {_milliseconds(movie.decay_seconds)}, contrast {movie.contrast:.3f}, at every q")
        began = time.monotonic()
        raw, self._qmap = self._experiment.take(dataset, movie, COARSE, seed=seed)
        progress.timed(f"take {dataset}", began)
        progress.say(f"Correlating it, in {COARSE} q-bins")
        self._run("xpcs_online_flow", {"raw": raw, "qmap": self._qmap}, dataset, title=dataset)

    def _once_more(self) -> None:
        first, dataset = self._records[0], self._records[0].title
        self._vicinity.progress.say(f"Correlating the first once more, in {FINE} q-bins")
        began = time.monotonic()
        self._qmap = self._experiment.qmap(self._movie, FINE)
        self._vicinity.progress.timed("make the other qmap", began)
        parameters: Document = {"subject": first.subject, "qmap": self._qmap, "suffix": SUFFIX}
        self._run("xpcs_reprocess_flow", parameters, dataset, title=dataset + SUFFIX)

    def _run(self, flow: str, parameters: Document, dataset: str, *, title: str) -> None:
        progress, began, clock = self._vicinity.progress, time.monotonic(), time.time()
        deployment = self._experiment.deployment
        request, run = start(deployment.beamline, flow, parameters, name=f"{flow}: {title}")
        ended = watch(self._ledger, request, run, scan=dataset, quiet=self._vicinity.as_json)
        if isinstance(ended, Failed) and self._ledger.runs.get(run) is None:
            raise ended.error  # it did not come so far that anything is known of the scan
        passage = Passage(run=run, began=clock, seconds=time.monotonic() - began, ended=ended)
        found = overview(self._ledger, self._ledger.scans.find(self._experiment.path(dataset).text))
        record = Record.of(self._settings, deployment, passage, found, self._movie, title=title)
        for name, seconds in (("results are back", record.results_back), ("the record is final", record.final)):
            if seconds is not None:
                progress.part(f"until {name}", seconds)
        progress.part("all of it", passage.seconds)
        self._scans[dataset] = found
        self._records.append(record)

    # ----- what is said of it ---------------------------------------------------------------------------------------

    def _summary(self) -> dict[str, object]:
        done = [
            operation
            for found in self._scans.values()
            for operation in found.operations
            if operation.state is OperationState.SUCCEEDED
        ]
        stages = [{"name": each.step, "seconds": round(each.seconds or 0.0, 3)} for each in done]
        return {
            "state": "completed" if self._complete else "failed",
            "stages": [*self._vicinity.progress.stages, *stages],
            "overhead_seconds": round(sum(record.overhead for record in self._records), 2),
            "truth": truth(self._movie),
            "correlation": correlation(self._records),
            "records": [record.document() for record in self._records],
            "urls": self._vicinity.urls,
        }

    def _outcome(self, summary: dict[str, object]) -> list[Text]:
        urls, movie = self._vicinity.urls, self._movie
        rows: list[tuple[str, Cell]] = [
            ("state", page.state(str(summary["state"]))),
            (
                "put in",
                f"decay {_milliseconds(movie.decay_seconds)}, contrast {movie.contrast:.3f}, the same at every q",
            ),
        ]
        for record in self._records:
            rows += [(record.title, _found(record)), ("", f"{record.subject} ({record.state or 'no record'})")]
        rows += [
            ("own overhead", f"{summary['overhead_seconds']} s besides what the stages themselves took"),
            ("runs", urls["prefect"]),
            ("catalogue", urls["catalogue"]),
        ]
        return page.columns([(Text(name, style=page.HEAD), value) for name, value in rows])

    def _pictures(self) -> list[Cell]:
        """Of each record the one with the most in it."""
        shown = [path for record in self._records for path in record.pictures if path.name.endswith(OVERVIEW)]
        title = Text("pictures, each with others beside it", style=page.HEAD)
        return ["", title, *(f"  {path}" for path in shown)] if shown else []

    def _hints(self) -> Iterator[str]:
        name = page.program()
        for command in ("scans --beamline aps8idi", f"show {self._records[0].title}"):
            yield f"{name} {command}"
        batch = batch_command(self._experiment.data, self._qmap)
        if batch is not None:
            yield batch
        yield f"{name} sandbox down"


def batch_command(folder: str, qmap: str) -> str | None:
    """Correlates all that is in a folder. None where this is no checkout of the project."""
    return f"{_python()} {CLIENT} run {folder} --qmap {qmap} --wait end" if CLIENT.is_file() else None


def correlation(records: Sequence[Record]) -> Document:
    """Of all records, the largest of each distance from the truth; None where one has no fits."""
    fits = [record.fitted for record in records]
    known = [each for each in fits if each is not None]
    whole = len(known) == len(fits) > 0
    return {
        "tau_error_percent": max(each.tau_error_percent for each in known) if whole else None,
        "contrast_error_percent": max(each.contrast_error_percent for each in known) if whole else None,
        "baseline_error": max(each.baseline_error for each in known) if whole else None,
        "pictures": [str(path) for record in records for path in record.pictures],
    }


def _found(record: Record) -> str:
    fits = record.fitted
    if fits is None:
        return "no q-bin has a good fit: take more frames, or more photons" if record.pictures else "no results"
    return (
        f"decay {_milliseconds(fits.tau_seconds)} ({fits.tau_error_percent:.1f} % off in the median, "
        f"{fits.worst_tau_error_percent:.1f} % at worst), contrast {fits.contrast:.3f} "
        f"({fits.contrast_error_percent:.1f} % off), in {fits.good} of {fits.bins} q-bins"
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"


def _python() -> str:
    """As it can be typed here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
