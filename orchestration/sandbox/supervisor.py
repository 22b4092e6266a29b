"""Starts, shows and stops the whole sandbox: the facility, Prefect's server with all deployments, worker and watcher.

Each component is a process with a log of its own that outlives the command that started it. What runs is recorded with
its start time, so that neither a crash nor a reboot makes this module take a stranger for one of its own.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from orchestration.errors import OperationFailed
from orchestration.ledger.database import migrate
from orchestration.sandbox import blueprint, components, migrated, ports, processes
from orchestration.sandbox.components import Component
from orchestration.sandbox.layout import Layout, Record
from orchestration.sandbox.processes import Process

START_PATIENCE = 240.0
STOP_PATIENCE = 8.0
LOG_TAIL_LINES = 20

Tell = Callable[[str, float], object]
"""Hears of each component that is ready, and after how many seconds; zero for one that was running before."""


@dataclass(frozen=True, kw_only=True)
class ComponentStatus:
    name: str
    alive: bool
    pid: int | None
    url: str
    log: Path


class Supervisor:
    """The sandbox in one directory.

    `project_file` is the config.yml to follow; `deployments` are files of deployments instead of those of the project,
    and `search` folders in which their flows are found.
    """

    def __init__(
        self,
        directory: Path,
        *,
        project_file: Path | None = None,
        deployments: Sequence[Path] = (),
        search: Sequence[Path] = (),
    ) -> None:
        self.layout = Layout.at(directory)
        self._project_file = project_file
        self._deployments = tuple(deployments)
        self._search = tuple(search)
        self._writing = threading.Lock()
        self._giving_up = threading.Event()

    def up(self, tell: Tell = lambda name, seconds: None) -> dict[str, str]:
        """Start what does not run, and return the environment that leads to the sandbox.

        Raises:
            OperationFailed: naming the component that did not start, with the end of its log.
            ConfigError: if the directory holds something else, or the project's settings are wrong.
        """
        with self.layout.lock():
            self.layout.create()
            missing = self._missing()
            if not missing:
                for name in components.NAMES:
                    tell(name, 0.0)
                return self.environment
            if not missing <= components.CLIENTS:
                self._stop_all()  # the others know each other's addresses: all start again
                blueprint.write(self.layout, self._project_file)
                migrate(self.layout.ledger_url)
                missing = set(components.NAMES)
                self._choose_ports()
                blueprint.write_environment(self.layout, self.environment)
            try:
                self._start_all(missing, tell)
            except BaseException:
                self._stop_all(patience=0.5)  # a part of a sandbox would be taken for a whole one
                raise
            return self.environment

    def down(self) -> tuple[str, ...]:
        """Stop everything; the names of what was running. All data stays.

        Raises:
            OperationFailed: if something could not be ended.
        """
        with self.layout.lock():
            return self._stop_all() if self.layout.exists() else ()

    def reset(self) -> None:
        """Stop everything and delete all data.

        Raises:
            ConfigError: if the directory is not a sandbox.
        """
        with self.layout.lock():
            if self.layout.exists():
                self._stop_all()
            self.layout.remove()

    def status(self) -> tuple[ComponentStatus, ...]:
        record = self.layout.read()
        return tuple(self._status(name, record) for name in components.NAMES)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a client to this sandbox, as last started."""
        ports = self.layout.read().ports
        return blueprint.environment(
            self.layout, facility_url=_url(ports.get("facility", 0)), prefect_port=ports.get("prefect", 0)
        )

    # ----- starting -------------------------------------------------------------------------------------------------

    def _start_all(self, missing: set[str], tell: Tell) -> None:
        ports = self.layout.read().ports
        everywhere = self._everywhere()
        if not missing <= components.CLIENTS:
            migrated.begin_with(self.layout.prefect)
            parts = (
                components.prefect_server(everywhere, ports["prefect"]),
                components.facility(self.layout, everywhere, ports["facility"]),
            )
            self._together([partial(self._deploy, everywhere), *(partial(self._start, part) for part in parts)], tell)
        clients: dict[str, Callable[[], Component]] = {
            "worker": lambda: components.worker(everywhere, ports["prefect"]),
            "watcher": lambda: components.watcher(self.layout, everywhere),
        }
        self._together([partial(self._start, make()) for name, make in clients.items() if name in missing], tell)

    def _together(self, steps: Sequence[Callable[[Tell], None]], tell: Tell) -> None:
        """All at once; the first that fails ends the others."""
        with ThreadPoolExecutor(max_workers=len(steps)) as pool:
            running = [pool.submit(step, tell) for step in steps]
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
            self._giving_up.set()
        self._giving_up.clear()
        for each in done:
            each.result()

    def _everywhere(self) -> dict[str, str]:
        """The environment of all components."""
        variables = {**blueprint.clean_environment(self.layout), **self.environment}
        search = [*map(str, self._search), variables["PYTHONPATH"]]
        return {**variables, "PYTHONPATH": os.pathsep.join(search)}

    def _start(self, component: Component, tell: Tell) -> None:
        began = time.monotonic()
        log = self._fresh_log(component.name)
        process = processes.start(
            component.argv, environment=component.environment, directory=self.layout.root, log=log
        )
        self._note(component.name, process)
        while not component.ready():
            if not process.alive:
                raise self._failure(f"{component.name} ended while it started", component.name)
            if time.monotonic() - began > START_PATIENCE:
                raise self._failure(f"{component.name} was not ready after {START_PATIENCE:.0f} s", component.name)
            if self._giving_up.wait(0.05):
                return
        tell(component.name, time.monotonic() - began)

    def _deploy(self, environment: Mapping[str, str], tell: Tell) -> None:
        """Make the deployments. Begun with the server, for the flows are imported while that one starts."""
        began = time.monotonic()
        argv = components.deploying(self._deployments, patience=START_PATIENCE)
        with self._fresh_log("deploy").open("wb") as output:
            command = subprocess.Popen(
                argv, env=dict(environment), cwd=self.layout.root, stdout=output, stderr=subprocess.STDOUT
            )
        while command.poll() is None:
            if self._giving_up.wait(0.05):
                command.kill()
                command.wait()
                return
        if command.returncode != 0:
            raise self._failure("the deployments were not made", "deploy")
        tell("deployments", time.monotonic() - began)

    def _choose_ports(self) -> None:
        """Those of the last time where they are free: addresses that somebody noted stay right."""
        record = self.layout.read()
        chosen = {name: ports.take(record.ports.get(name, 0)) for name in ("facility", "prefect")}
        self.layout.write(replace(record, ports=chosen))

    def _note(self, name: str, process: Process) -> None:
        with self._writing:
            record = self.layout.read()
            self.layout.write(replace(record, processes={**record.processes, name: process}))

    def _fresh_log(self, component: str) -> Path:
        log = self.layout.log(component)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        return log

    def _failure(self, what: str, component: str) -> OperationFailed:
        log = self.layout.log(component)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        tail = "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]) or "  | (it wrote nothing)"
        return OperationFailed(
            f"{what}; the end of its log:\n{tail}\n",
            where=str(log),
            next_step="mend that, then run `beamline sandbox up` again",
        )

    # ----- stopping -------------------------------------------------------------------------------------------------

    def _stop_all(self, *, patience: float = STOP_PATIENCE) -> tuple[str, ...]:
        record = self.layout.read()
        running = tuple(name for name, process in record.processes.items() if process.alive)
        # Worker and watcher first: runs can still tell the server, and what they asked of the facility is answered.
        for names in (components.CLIENTS, ("facility", "prefect")):
            processes.stop([record.processes[name] for name in names if name in running], patience=patience)
        processes.kill_marked(str(self.layout.root))
        left = [name for name in running if record.processes[name].alive]
        if left:
            raise OperationFailed(
                f"{', '.join(left)} could not be ended",
                where=str(self.layout.root),
                next_step="end those processes yourself: " + " ".join(str(record.processes[name].pid) for name in left),
            )
        self.layout.write(Record(ports=record.ports))
        return running

    # ----- looking --------------------------------------------------------------------------------------------------

    def _missing(self) -> set[str]:
        found = self.layout.read().processes
        return {name for name in components.NAMES if name not in found or not found[name].alive}

    def _status(self, name: str, record: Record) -> ComponentStatus:
        process = record.processes.get(name)
        alive = process is not None and process.alive
        port = record.ports.get(name, 0)
        return ComponentStatus(
            name=name,
            alive=alive,
            pid=process.pid if process is not None and alive else None,
            url=_url(port) if port else "",
            log=self.layout.log(name),
        )


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"
