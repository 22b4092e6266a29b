"""Where trials take place: a world, processes to kill in it, and the words in which tests speak of both."""

from __future__ import annotations

import itertools
import sqlite3
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx

from orchestration.flows.standing import hear_cancelled
from orchestration.flows.suspending import SuspendedRuns
from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.service import Json
from orchestration.sandbox.trials.audit import ALCF_FLOW, LOCAL_FLOW, NERSC_FLOW, NEW_FILE_FLOW, Audit, Complaint
from orchestration.sandbox.trials.kills import Ended, Kill
from orchestration.sandbox.trials.nursery import Child, Nursery
from orchestration.sandbox.trials.world import BEAMLINE, DELETIONS, World

NEW_FILE = "orchestration.flows.bl832.move:process_new_832_file_flow"
LOCAL = "orchestration.flows.bl832.local:local_recon_flow"
DISPATCHER = "orchestration.flows.bl832.dispatcher:dispatcher"
NERSC = "orchestration.flows.bl832.nersc:nersc_recon_flow"
ALCF = "orchestration.flows.bl832.alcf:alcf_recon_flow"
TARGETS = {NEW_FILE_FLOW: NEW_FILE, LOCAL_FLOW: LOCAL, NERSC_FLOW: NERSC, ALCF_FLOW: ALCF}

DEPLOYED = (*DELETIONS, "new_file_832")

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Room:
    world: World
    nursery: Nursery

    def deploy(self) -> None:
        made = self.run("orchestration.sandbox.trials.deployments:make", beamline=BEAMLINE, names=list(DEPLOYED))
        assert made.completed, made

    def calm(self) -> None:
        if not self.world.alive("facility"):
            self.world.start("facility")
        self.keep_copies(None)
        self.world.facility.faults.clear()
        for collection in self.world.facility.collections.every():
            self.world.facility.collections.set(
                str(collection["id"]), connected=True, writable=True, deny=[], paused=False, full=False, expired=False
            )

    def run(self, target: str, *, kill: Kill | None = None, **arguments: Json) -> Ended:
        return self.nursery.run(target, arguments, kill=kill)

    def start(self, target: str, *, kill: Kill | None = None, **arguments: Json) -> Child:
        return self.nursery.start(target, arguments, kill=kill)

    def scan(self, name: str = "") -> str:
        """A new scan that no other trial has."""
        return self.world.scan(name or f"scan{next(_numbers):04}x{uuid.uuid4().hex[:6]}.h5")

    def moved_scan(self) -> str:
        """One that has been through `new_832_file_flow`."""
        file_path = self.scan()
        moved = self.run(NEW_FILE, file_path=file_path)
        assert moved.completed, moved
        return file_path

    def file(self, endpoint: str, file_path: str) -> Path:
        """The file of a scan, behind one of the endpoints that keep acquisition's path."""
        return self.world.root(endpoint) / file_path.removeprefix("/global/")

    def collection(self, endpoint: str) -> str:
        return str(self.world.settings().endpoint(endpoint).require_uuid())

    def overview(self, file_path: str) -> Overview:
        with self.world.ledger() as ledger:
            return overview(ledger, ledger.scans.find(file_path.removeprefix("/global/")))

    def keep_copies(self, days: float | None) -> None:
        """What operators write into Prefect's variables; with None, what config.yml says holds again."""
        variables = self.world.settings().prefect.variables.documents()
        with httpx.Client(base_url=self.world.prefect_url, trust_env=False, timeout=30.0) as client:
            for name in ("bl832-settings", "pruning-config"):
                client.delete(f"/variables/name/{name}")
                if days is not None:
                    ages = {key: days for key in variables[name] if key.endswith("after_days")}
                    client.post("/variables/", json={"name": name, "value": ages}).raise_for_status()

    def let_time_pass(self, file_path: str) -> None:
        """All copies of the scan become due."""
        self.keep_copies(0.0)
        scan = self.overview(file_path).scan
        with closing(sqlite3.connect(self.world.layout.root / "ledger.sqlite")) as database, database:
            database.execute(
                "update copies set delete_after = ? where scan_id = ? and delete_after is not null",
                (time.time() - 1.0, scan.id),
            )

    def prune(self, endpoint: str, file_path: str, *, kill: Kill | None = None) -> Ended:
        path = file_path.removeprefix("/global/")
        flow = f"orchestration.flows.bl832.prune:prune_{endpoint}"
        return self.run(flow, kill=kill, relative_path=path, dry_run=False)

    def cancel_in_prefect(self, flow: str) -> RunRecord:
        """The last run of a flow, as a person does, and as `reconcile` hears of it."""
        with self.world.ledger() as ledger:
            running = [each for each in ledger.runs.in_state(RunState.RUNNING) if each.flow == flow]
        run = max(running, key=lambda each: each.started_at)  # others were killed by earlier tests
        with httpx.Client(base_url=self.world.prefect_url, trust_env=False, timeout=30.0) as client:
            state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
            client.post(f"/flow_runs/{run.id}/set_state", json=state).raise_for_status()
        with self.world.ledger() as ledger:
            hear_cancelled(ledger, SuspendedRuns(), [run])
        return run

    def complaints(self, file_path: str, *flows: str) -> list[Complaint]:
        return Audit(self.world).complaints(file_path, flows=flows)

    def audit(self) -> Audit:
        """For several scans; it knows what had happened when it was made."""
        return Audit(self.world)

    def effects(self, file_path: str) -> list[str]:
        """What the facility did with the files of a scan."""
        stem = Path(file_path).stem
        effects = self.world.facility.effects()
        return [one.kind for one in effects if stem in one.label or any(stem in path for path in one.paths)]

    def prefect_states(self, file_path: str) -> Sequence[tuple[str, str]]:
        """The state and the message of each run of a scan, the oldest first."""
        return [(state, message) for _, state, message in self.prefect_runs(file_path)]

    def prefect_runs(self, file_path: str) -> Sequence[tuple[str, str, str]]:
        """The id, the state and its message of each run of a scan, the oldest first."""
        named = {"flow_runs": {"name": {"like_": Path(file_path).stem}}, "sort": "START_TIME_ASC"}
        with httpx.Client(base_url=self.world.prefect_url, trust_env=False, verify=False, timeout=60.0) as client:
            runs = client.post("/flow_runs/filter", json=named).raise_for_status().json()
        mine = [(run["id"], run["state"]) for run in runs if run["parameters"].get("file_path") == file_path]
        return [(run_id, state["type"], state["message"] or "") for run_id, state in mine]
