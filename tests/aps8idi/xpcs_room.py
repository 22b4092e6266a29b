"""Where trials of the XPCS flows take place: a world, small measurements, and words in which tests speak of them."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from orchestration import config
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_reader import GlobusSearch
from orchestration.ledger.batches import BatchItem
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.service import Json
from orchestration.sandbox import blueprint, components, processes
from orchestration.sandbox.trials.kills import Ended, Kill
from orchestration.sandbox.trials.nursery import Nursery
from orchestration.sandbox.trials.world import World
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.simulate import write_metadata, write_qmap, write_raw

ONLINE = "orchestration.flows.aps8idi.online:xpcs_online_flow"
REPROCESS = "orchestration.flows.aps8idi.reprocess:xpcs_reprocess_flow"
BATCH = "orchestration.flows.aps8idi.batch:xpcs_batch_flow"

BEAMLINE = "aps8idi"
INDEX = "xpcs"
CYCLE = "2026-3"

MOVIE = MovieDescription(rows=32, columns=32, frames=64, photons=0.5, contrast=0.4, decay=4.0)

LARGER = replace(MOVIE, rows=48, columns=48)

PLENTY = 300

EVERY = int(os.environ.get("BEAMLINE_TEST_EVERY", "6"))
"""So many-th new kind of boundary is fatal; with 1 each is."""

_numbers = itertools.count(1)

DELETIONS = (
    "prune_local8idi_raw",
    "prune_local8idi_scratch",
    "prune_polaris_xpcs_raw",
    "prune_polaris_xpcs_scratch",
    "prune_globus_endpoint_8idi",
    "prune_filesystem_endpoint_8idi",
)

FACILITY = "voyager-8idi-polaris"
"""The deployment that correlates and draws at Polaris."""

DRAWN_APART, PLOTS = "drawn-apart", "aps8idi_plots"
"""One that correlates there and draws on a machine of the beamline; where that has its files."""


@dataclass(frozen=True)
class XpcsRoom:
    world: World
    nursery: Nursery
    templates: Path
    """A measurement of each kind, made once."""

    def run(self, target: str, *, kill: Kill | None = None, **arguments: Json) -> Ended:
        return self.nursery.run(target, arguments, kill=kill)

    def killed_all_the_way(self, target: str, **arguments: Json) -> tuple[Ended, int]:
        """Each run is killed at one of the kinds of boundary that none has come to, until one comes to its end; how
        that ended, and how many were killed.
        """
        kills, passed, ended = -1, set[str](), Ended(killed=True)
        while ended.killed:
            assert kills < PLENTY, "it makes no progress"
            ended = self.run(target, kill=Kill(spared=tuple(passed), nth=EVERY), **arguments)
            kills, passed = kills + 1, passed | {*ended.boundaries}
        return ended, kills

    # ----- what is measured -----------------------------------------------------------------------------------------

    @property
    def source(self) -> Path:
        return self.world.root("aps8idi")

    def experiment(self) -> str:
        """A folder of its own for each test, below the source."""
        return f"{CYCLE}/trial{next(_numbers):03}"

    def measure(self, experiment: str, name: str = "a01") -> Path:
        """A dataset as the detector leaves it; its folder."""
        folder = self.source / experiment / "data" / name
        folder.mkdir(parents=True)
        for suffix in (".h5", "_metadata.hdf"):
            shutil.copyfile(self.templates / f"movie{suffix}", folder / f"{name}{suffix}")
        return folder

    def qmap(self, experiment: str, name: str = "qmap.hdf", *, rings: int = 3, movie: MovieDescription = MOVIE) -> str:
        """Of this experiment; its path as users say it."""
        path = self.source / experiment / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_qmap(path, movie, rings=rings)
        return self.posix(path)

    def posix(self, path: Path) -> str:
        return f"/gdata/dm/8IDI/{path.relative_to(self.source)}"

    def root(self, endpoint: str) -> Path:
        return self.world.root(endpoint)

    # ----- what became of it ----------------------------------------------------------------------------------------

    def overview(self, folder: Path) -> Overview:
        with self.world.ledger() as ledger:
            return overview(ledger, ledger.scans.find(str(folder.relative_to(self.source))))

    def items(self, batch: str) -> Sequence[BatchItem]:
        with self.world.ledger() as ledger:
            return ledger.batches.items(batch)

    def done(self, folder: Path, service: str) -> list[str]:
        """The steps that a service has done for a dataset."""
        operations = self.overview(folder).operations
        return [each.step for each in operations if each.service.startswith(service) and each.finished_at]

    @cached_property
    def search(self) -> GlobusSearch:
        return GlobusSearch(SearchClients(config.credentials()))

    def record(self, subject: str) -> Mapping[str, Any] | None:
        """What the index says of a subject."""
        return self.search.entry(self.world.settings().search.index(INDEX), subject=subject)

    def subject_of(self, folder: Path) -> str:
        """Of the only record of a dataset that was ever published."""
        subjects = {
            str(each.request["subject"])
            for each in self.overview(folder).operations
            if each.service == "globus.publish"
        }
        assert len(subjects) == 1, subjects
        return subjects.pop()


def quick(layout_file: Path) -> None:
    """Settings with which nobody waits for long for files that do not come, and a deployment with a site for plots."""
    document = yaml.safe_load(layout_file.read_text())
    document["xpcs"] |= {"settle_seconds": 0.2, "patience_seconds": 1.0}
    _draw_apart(document)
    layout_file.write_text(yaml.safe_dump(document, sort_keys=False))


def _draw_apart(document: dict[str, Any]) -> None:
    endpoints, deployments = document["globus"]["globus_endpoints"], document["xpcs"]["deployments"]
    mount = Path(endpoints["aps8idi_results"]["mount"]).with_name(PLOTS)
    mount.mkdir()
    endpoints[PLOTS] = {**endpoints["aps8idi_results"], "root_path": f"/{PLOTS}", "name": PLOTS, "mount": str(mount)}
    document["compute_sites"]["plots"] = {
        **document["compute_sites"]["local_xpcs"],
        "raw_endpoint": PLOTS,
        "scratch_endpoint": PLOTS,
    }
    document["retention"][PLOTS] = {"after_days": 1, "requires": {"any_of": ["aps8idi_results"], "min_copies": 1}}
    deployments[DRAWN_APART] = {**deployments[FACILITY], "plot_site": "plots"}


@contextmanager
def hearing_of_tasks(world: World) -> Iterator[None]:
    """Prefect's server notes the tasks of runs meanwhile; it hears of them by events, to which else nothing listens."""
    everywhere = {**blueprint.clean_environment(world.layout), **world.environment}
    server = components.prefect_server(everywhere, urlsplit(world.prefect_url).port or 0)
    world.kill("prefect")
    process = processes.start(
        server.argv, environment=server.environment, directory=world.layout.root, log=world.layout.log("prefect")
    )
    try:
        eventually(server.ready)
        yield
    finally:
        processes.stop([process], patience=2.0)
        world.start("prefect")


def eventually(true: Callable[[], object], *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.05)


def write_templates(folder: Path) -> Path:
    write_raw(folder / "movie.h5", MOVIE, "nexus")
    write_metadata(folder / "movie_metadata.hdf", MOVIE)
    return folder
