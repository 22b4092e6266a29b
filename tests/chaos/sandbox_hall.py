"""A whole sandbox, with Prefect's server and a worker, whose processes are killed one by one."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from orchestration.ledger import Ledger
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.sandbox import components, processes
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.supervisor import Supervisor
from orchestration.sandbox.trials.world import write_scan

T = TypeVar("T")

CRAWL = 10.0
"""Bytes per second: a scan that has begun to move does not arrive until that is changed."""


@dataclass(frozen=True)
class Hall:
    supervisor: Supervisor
    facility: SandboxClient
    prefect: httpx.Client

    # ----- scans and what is known of them --------------------------------------------------------------------------

    def scan(self, name: str) -> str:
        file = self.supervisor.layout.endpoints / "spot832" / "raw" / "hall" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_scan(file)
        return f"/global/raw/hall/{name}"

    def overview(self, file_path: str) -> Overview:
        with Ledger(self.supervisor.layout.ledger_url) as ledger:
            return overview(ledger, ledger.scans.find(file_path.removeprefix("/global/")))

    def transfers(self, file_path: str) -> int:
        """Tasks that the facility was given for the first leg of a scan."""
        start = f"/{file_path.removeprefix('/global/')}"
        return sum(1 for one in self.facility.effects("transfer") if one.paths[0] == start)

    def effects(self, file_path: str) -> list[str]:
        stem = Path(file_path).stem
        effects = self.facility.effects()
        return [one.kind for one in effects if stem in one.label or any(stem in path for path in one.paths)]

    # ----- runs -----------------------------------------------------------------------------------------------------

    def start(self, deployment: str, **parameters: object) -> str:
        found = self._ask("GET", f"/deployments/name/{deployment}")
        key = f"hall-{uuid.uuid4()}"
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "idempotency_key": key}
        return str(self._ask("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"])

    def start_slowly(self, deployment: str, file_path: str) -> str:
        """A run whose first transfer goes on until the bandwidth is changed; returns when that has begun."""
        self.bandwidth(CRAWL)
        run = self.start(deployment, file_path=file_path)
        wait_for(lambda: self.transfers(file_path) > 0)
        return run

    def bandwidth(self, limit: float) -> None:
        for collection in self.facility.collections.every():
            self.facility.collections.set(str(collection["id"]), bandwidth=limit)

    def cancel(self, run: str) -> None:
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self._ask("POST", f"/flow_runs/{run}/set_state", {"state": state})

    def state(self, run: str) -> str:
        return str(self._ask("GET", f"/flow_runs/{run}")["state"]["type"])

    def reaches(self, run: str, state: str, *, seconds: float) -> None:
        """The run comes to this state in time; if not, it is told how all runs stand that have not ended."""
        try:
            wait_for(lambda: self.state(run) == state, seconds=seconds)
        except AssertionError as late:
            late.add_note(f"{run} is {self.state(run)}: {self.message(run)}")
            body = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]}}}}
            for one in self.prefect.post("/flow_runs/filter", json=body).raise_for_status().json():
                late.add_note(f"{one['state']['name']} since {one['state']['timestamp']}: {one['name']} {one['id']}")
            raise

    def message(self, run: str) -> str:
        return str(self._ask("GET", f"/flow_runs/{run}")["state"]["message"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A server that is busy, as Prefect's is now and then on SQLite, is asked again."""
        for _ in range(60):
            answer = self.prefect.request(method, path, json=body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            threading.Event().wait(0.5)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def record(self, run: str) -> RunRecord:
        with Ledger(self.supervisor.layout.ledger_url) as ledger:
            found = ledger.runs.get(run)
        assert found is not None
        return found

    def record_of(self, flow: str, file_path: str) -> RunRecord:
        """The last run of that flow on a scan."""
        return [run for run in self.overview(file_path).runs if run.flow == flow][-1]

    def completed(self, flow: str, file_path: str) -> None:
        wait_for(lambda: self.record_of(flow, file_path).state is RunState.COMPLETED)

    # ----- processes ------------------------------------------------------------------------------------------------

    def process_of(self, run: str) -> int:
        return Owner.parse(self.record(run).owner).pid

    def worker(self) -> int:
        return self._pid("worker")

    def _pid(self, name: str) -> int:
        pid = next(one.pid for one in self.supervisor.status() if one.name == name)
        assert pid is not None
        return pid

    def kill_server(self) -> None:
        pid = self._pid("prefect")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not running(pid))

    def start_server(self) -> None:
        """At the address that it had."""
        layout = self.supervisor.layout
        port = layout.read().ports["prefect"]
        server = components.prefect_server(self.supervisor._everywhere(), port)
        process = processes.start(
            server.argv, environment=server.environment, directory=layout.root, log=layout.log("prefect")
        )
        self.supervisor._note("prefect", process)
        wait_for(server.ready)


def running(pid: int) -> bool:
    return processes.start_time(pid) is not None


def wait_for(true: Callable[[], object], *, seconds: float = 180.0) -> None:
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not true():
        assert time.monotonic() < until, f"not within {seconds} s"
        pause.wait(0.1)
