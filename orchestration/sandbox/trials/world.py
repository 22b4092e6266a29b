"""A small world for trials: the stand-ins and a Prefect server as processes of their own, and scans to carry."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import h5py
import numpy as np
import yaml

from orchestration import config
from orchestration.config import Settings
from orchestration.errors import OperationFailed
from orchestration.ledger import Ledger
from orchestration.sandbox import blueprint, components, migrated, ports, processes
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.components import Component
from orchestration.sandbox.layout import Layout
from orchestration.sandbox.processes import Process
from orchestration.sandbox.trials import program
from orchestration.sandbox.trials.nursery import Nursery

BEAMLINE = "bl832"
DELETIONS = (
    "prune_spot832",
    "prune_data832",
    "prune_data832_scratch",
    "prune_local832_raw",
    "prune_local832_scratch",
    "prune_nersc832_alsdev_pscratch_raw",
    "prune_nersc832_alsdev_pscratch_scratch",
    "prune_alcf832_raw",
    "prune_alcf832_scratch",
)
"""The deployments in which what the flows make is deleted in the end."""

FLOWS = (
    "orchestration.flows.bl832.move",
    "orchestration.flows.bl832.local",
    "orchestration.flows.bl832.nersc",
    "orchestration.flows.bl832.alcf",
    "orchestration.flows.bl832.anywhere",
    "orchestration.flows.bl832.archive",
    "orchestration.flows.bl832.archive_all",
    "orchestration.flows.bl832.retrieve",
    "orchestration.flows.bl832.unarchive",
    "orchestration.flows.reconciling",
    "orchestration.flows.bl832.prune",
    "orchestration.flows.bl832.dispatcher",
    "orchestration.sandbox.trials.deployments",
)

LATE = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "globus_sdk.authorizers",
    "globus_sdk.services.auth",
    "globus_sdk.services.transfer",
    "numpy.ma",
    "prefect.concurrency.services",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "requests",
    "sqlalchemy.dialects.sqlite",
)
"""What flows import when they first need it: for a forked process that would be each time."""

START_PATIENCE = 240.0
FACILITY_RETRY_SECONDS = 0.05

_PREFECT = {
    "PREFECT__SERVER_WEBSERVER_ONLY": "1",
}
"""No late runs, no schedules, no automations: a trial decides itself what runs."""

_FLOWS = {
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}


_ALIKE = ("raw_endpoint", "scratch_endpoint", "job_folder", "python", "account", "cores")
"""What the same computer is told by another interface, too."""


Serve: TypeAlias = Callable[[Layout], AbstractContextManager[str]]
"""Serves a facility, as the files of the layout say, and yields its URL; it may change those files before."""


class World:
    """Everything that the flows of 8.3.2 talk to, in one directory.

    Reconstructions are done by `trials.program`, unless they are to be `real`. `serve` is for a facility of another
    kind than a process of this machine.
    """

    def __init__(self, directory: Path, *, real: bool = False, serve: Serve | None = None) -> None:
        self.layout = Layout.at(directory)
        self._real = real
        self._serve = serve
        self._served = ExitStack()
        self._elsewhere = ""
        self._components: dict[str, Process] = {}
        self._ports = {"facility": ports.take(), "prefect": ports.take()}
        self.facility = SandboxClient(self.facility_url)

    # ----- its processes --------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.layout.create()
        blueprint.write(self.layout, None if self._real else write_project(self.layout.root / "site"))
        rows = yaml.safe_load(self.layout.facility_file.read_text())
        self.layout.facility_file.write_text(yaml.safe_dump({**rows, "retry": FACILITY_RETRY_SECONDS}))
        try:
            if self._serve is not None:
                self._elsewhere = self._served.enter_context(self._serve(self.layout))
                self.facility = SandboxClient(self._elsewhere)
            blueprint.write_environment(self.layout, self.environment)
            migrated.begin_with(self.layout.prefect)
            self.start(*(["prefect"] if self._elsewhere else ["facility", "prefect"]))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.facility.close()
        self._served.close()
        processes.stop(list(self._components.values()), patience=2.0)
        processes.kill_marked(str(self.layout.root))

    def start(self, *names: str) -> None:
        """Start components, again at the same address, and wait until they answer."""
        wanted = [self._component(name) for name in names]
        for component in wanted:
            self._components[component.name] = processes.start(
                component.argv,
                environment=component.environment,
                directory=self.layout.root,
                log=self.layout.log(component.name),
            )
        until = time.monotonic() + START_PATIENCE
        for component in wanted:
            while not component.ready():
                if time.monotonic() > until or not self._components[component.name].alive:
                    log = self.layout.log(component.name)
                    raise OperationFailed(f"{component.name} did not start", where=str(log), next_step="read its log")
                threading.Event().wait(0.05)

    def alive(self, name: str) -> bool:
        return name in self._components and self._components[name].alive

    def kill(self, name: str) -> None:
        """At once, as when the power fails."""
        os.kill(self._components[name].pid, 9)
        processes.stop([self._components.pop(name)], patience=0.0)

    def _component(self, name: str) -> Component:
        if name == "facility":
            return components.facility(self.layout, self._everywhere, self._ports[name])
        server = components.prefect_server(self._everywhere, self._ports[name])
        return replace(server, environment={**server.environment, **_PREFECT})

    def nursery(self, *modules: str, environment: Mapping[str, str] | None = None) -> Nursery:
        """Processes that run flows in this world."""
        variables = {**self._everywhere, **_FLOWS, **(environment or {})}
        return Nursery(variables, [*LATE, *FLOWS, *modules], log=self.layout.log("flows"))

    # ----- how to get there -----------------------------------------------------------------------------------------

    @property
    def facility_url(self) -> str:
        return self._elsewhere or f"http://127.0.0.1:{self._ports['facility']}"

    @property
    def environment(self) -> dict[str, str]:
        variables = blueprint.environment(
            self.layout, facility_url=self.facility_url, prefect_port=self._ports["prefect"]
        )
        return {**variables, "BEAMLINE_STATE": str(self.layout.root / "state")}

    @property
    def _everywhere(self) -> dict[str, str]:
        return {**blueprint.clean_environment(self.layout), **self.environment}

    @property
    def prefect_url(self) -> str:
        return self.environment["PREFECT_API_URL"]

    def settings(self) -> Settings:
        found, problems = config.inspect(self.layout.config_file)
        if found is None:
            raise OperationFailed(f"the settings are wrong: {problems}")
        return found

    def ledger(self) -> Ledger:
        return Ledger(self.layout.ledger_url)

    @property
    def jobs_log(self) -> Path:
        return self.layout.root / "site" / program.LOG

    # ----- what it holds --------------------------------------------------------------------------------------------

    def root(self, endpoint: str) -> Path:
        """The directory behind an endpoint, whether this service sees it or the facility alone."""
        found = self.settings().endpoint(endpoint)
        if found.mount is not None:
            return found.mount
        rows = yaml.safe_load(self.layout.facility_file.read_text())["collections"]
        collection = next(Path(row["root"]) for row in rows if row["id"] == str(found.uuid))
        return collection / found.root_path.lstrip("/")

    def scan(self, name: str, *, folder: str = "trials", size: int = 20_000) -> str:
        """A scan as acquisition leaves it; returns its path as acquisition says it."""
        file = self.root("spot832") / "raw" / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_scan(file, size=size)
        return f"/global/raw/{folder}/{name}"


def write_project(folder: Path) -> Path:
    """The project's settings, but with sites that compute at once; the program they run lies beside them.

    NERSC is there once more, by the IRI API, as a site ``iri``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    site = folder / "program"
    site.write_text(f"#!{sys.executable} -S\n{Path(program.__file__).read_text()}")
    (folder / "project").symlink_to(Path(__file__).resolve().parents[3])
    site.chmod(site.stat().st_mode | stat.S_IXUSR)
    document = yaml.safe_load(blueprint.project_config().read_text())
    sites = document["compute_sites"]
    for each in sites.values():
        each["python"] = str(site)
    sites["iri"] = {
        **{key: sites["nersc"][key] for key in _ALIKE},
        "kind": "iri",
        "api_url": "${IRI_API_URL:-http://127.0.0.1:9}",
        "resource": "cluster",
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def write_scan(path: Path, *, size: int = 20_000) -> None:
    """A whole Data Exchange file of about `size` bytes, different from every other; it appears in one step."""
    columns = max(4, size // (8 * 4 * 2))
    random = np.random.default_rng()
    part = path.with_name(f".part-{os.getpid()}-{threading.get_ident()}")
    with h5py.File(part, "w") as file:
        file["/exchange/data"] = random.integers(1, 60_000, (8, 4, columns), dtype=np.uint16)
        file["/exchange/theta"] = np.linspace(0.0, 180.0, 8)
        file["/measurement/sample/file_name"] = path.stem[:60]
        file["/measurement/sample/experiment/proposal"] = "ALS-00001"
        file["/measurement/sample/experiment/pi"] = "A. Scientist"
    part.replace(path)
