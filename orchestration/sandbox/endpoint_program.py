"""The real Globus Compute endpoint program on this machine, registered at a facility of the sandbox."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestration.globus.endpoints import layout
from orchestration.ledger.service import Document
from orchestration.sandbox import documents, processes
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.testing import RunningFacility, endpoint_environment

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_PIDFILE = "daemon.pid"
_CONFIG = "heartbeat_period: 5\nemail: beamline@localhost\n"
_BEGUN = b"Core Endpoint begins"
_TITLES = "SPT_NOENV"
"""Set, it keeps the program from writing its title over the environment of its process, where the mark is."""


class EndpointProgram:
    """One endpoint, laid out from the files for `site`; `url` is the facility's, `venv` where the program is.

    Its processes, and those of all its tasks, carry a mark by which they are found when they must end.
    """

    def __init__(
        self, *, url: str, venv: Path, directory: Path, kind: str, values: Mapping[str, str], site: str = "local"
    ) -> None:
        given = {"BEAMLINE_SCIENCE": str(venv), **values}
        self.endpoint = layout.lay_out(site, kind, directory, given, venv=venv)
        # A real site's own is slow to tell that it is there, and cannot be run by root.
        (self.endpoint.folder / "config.yaml").write_text(_CONFIG)
        self._mark = {processes.MARK: str(self.endpoint.folder), _TITLES: "1"}
        # As root the program gives the processes of tasks nothing but the values of the site.
        with (self.endpoint.folder / layout.ENVIRONMENT).open("a") as file:
            file.writelines(f"{name}: {json.dumps(value)}\n" for name, value in self._mark.items())
        self._url = url
        self._process: processes.Process | None = None

    @property
    def id(self) -> str:
        """Under which the facility knows it; it keeps it, however often it is started."""
        text = (self.endpoint.folder / "endpoint.json").read_text()
        return documents.text(json.loads(text), "endpoint_id")

    @property
    def log(self) -> Path:
        return self.endpoint.folder / "endpoint.log"

    def start(self) -> None:
        """Returns when it listens, and the facility has heard of it."""
        home = self.endpoint.directory / "home"
        home.mkdir(exist_ok=True)
        self._forget_the_dead()
        logged = self._log_size()
        variables = {
            "PATH": self.endpoint.environment["PATH"],
            "HOME": str(home),
            **self._mark,
            **endpoint_environment(self._url),
        }
        printed = self.endpoint.directory / f"{self.endpoint.name}.out"
        argv = [str(self.endpoint.script), "start"]
        self._process = processes.start(argv, environment=variables, directory=self.endpoint.directory, log=printed)
        until = time.monotonic() + _START_SECONDS
        with SandboxClient(self._url) as client:
            # The facility believes in one that was killed until its heartbeats are missed: the log knows better.
            while not (self._begun(logged) and self._online(client)):
                if not self._process.alive or time.monotonic() > until:
                    self.kill()
                    raise RuntimeError(f"the endpoint program did not start: {_tail(printed)}{_tail(self.log)}")
                threading.Event().wait(0.1)

    def stop(self) -> None:
        """As a person would; whatever is left after that is killed."""
        if self._process is not None:
            processes.stop([self._process], patience=_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Every process of it at once, those of tasks too."""
        processes.kill_marked(self._mark[processes.MARK])
        self._process = None

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _begun(self, logged: int) -> bool:
        if self._log_size() <= logged:
            return False
        with self.log.open("rb") as file:
            file.seek(logged)
            return _BEGUN in file.read()

    def _online(self, client: SandboxClient) -> bool:
        if not (self.endpoint.folder / "endpoint.json").exists():
            return False
        known: list[Document] = client.compute.endpoints()
        return any(documents.text(one, "id") == self.id and documents.flag(one, "online") for one in known)

    def _forget_the_dead(self) -> None:
        """The program takes a killed one's file for that of one which runs, for three heartbeats."""
        folders = [self.endpoint.folder, *self.endpoint.directory.glob("uep.*")]
        for folder in folders:
            (folder / _PIDFILE).unlink(missing_ok=True)


@contextmanager
def running_endpoint(
    facility: RunningFacility,
    directory: Path,
    *,
    venv: Path,
    kind: str = "compute",
    values: Mapping[str, str] | None = None,
    site: str = "local",
) -> Iterator[EndpointProgram]:
    """The real program, online at `facility` until the context ends; its `id` is what a client submits to.

    `venv` is what scripts/install_compute_endpoint.sh made, `kind` is ``compute`` (worker processes) or
    ``non_compute`` (threads); `values` replace entries of ``user_environment.yaml``, such as ``BEAMLINE_SCIENCE``.
    Another `site` than ``local`` needs the commands of its batch system on the ``PATH`` among them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = EndpointProgram(
        url=facility.url, venv=venv, directory=directory, kind=kind, values=values or {}, site=site
    )
    program.start()
    try:
        yield program
    finally:
        program.stop()


def _tail(file: Path) -> str:
    if not file.exists():
        return ""
    lines = file.read_text(errors="replace").splitlines()[-20:]
    return os.linesep.join(["", f"{file}:", *lines])
