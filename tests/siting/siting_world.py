"""A world for trials with two facilities besides this machine, in which sites go down while they have work."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestration.ledger.overview import Overview, overview
from orchestration.ledger.service import Json
from orchestration.sandbox.trials.kills import Ended, Kill
from orchestration.sandbox.trials.nursery import Child, Nursery
from orchestration.sandbox.trials.world import BEAMLINE, DELETIONS, World

ANY = "orchestration.flows.bl832.anywhere:any_recon_flow"
NEW_FILE = "orchestration.flows.bl832.move:process_new_832_file_flow"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """The world, and the words in which the tests speak of it."""

    world: World
    nursery: Nursery

    def deploy(self) -> None:
        arguments: dict[str, Json] = {"beamline": BEAMLINE, "names": list(DELETIONS)}
        made = self.nursery.run("orchestration.sandbox.trials.deployments:make", arguments)
        assert made.completed, made

    def calm(self) -> None:
        """Every site is up, nothing is held, and nothing that an earlier test asked for goes on."""
        facility = self.world.facility
        facility.faults.clear()
        facility.superfacility.end_maintenance()
        facility.superfacility.clear_outages()
        facility.superfacility.turn(held=False, submit_delay=0.0)
        facility.superfacility.set_status("active", notes=[])
        facility.iri.all_up()
        facility.iri.hold(held=False)
        for endpoint in facility.compute.endpoints():
            facility.compute.switch(str(endpoint["id"]), online=True, held=False)
        for collection in facility.collections.every():
            facility.collections.set(str(collection["id"]), connected=True, paused=False, bandwidth=0.0)

    def prefer(self, *sites: str, **siting: float) -> None:
        """The sites of the beamline, the preferred one first, and the settings of siting."""
        path = self.world.layout.config_file
        document = yaml.safe_load(path.read_text())
        document["beamlines"]["bl832"]["sites"] = list(sites)
        document["siting"] = {**document.get("siting", {}), **siting}
        part = path.with_suffix(".part")
        part.write_text(yaml.safe_dump(document, sort_keys=False))
        part.replace(path)

    def endpoints(self, *names: str, online: bool | None = None, held: bool | None = None) -> None:
        """Switch the endpoints of ALCF that the settings call so."""
        variables = {"compute": "GLOBUS_COMPUTE_ENDPOINT", "non_compute": "GLOBUS_COMPUTE_LOGIN_ENDPOINT"}
        for name in names:
            identifier = self.world.environment[variables[name]]
            self.world.facility.compute.switch(identifier, online=online, held=held)

    def scan(self, *, controlled: bool = False) -> str:
        """A scan that has been moved to the beamline's server; its path."""
        file_path = self.world.scan(f"siting{next(_numbers):03}x{uuid.uuid4().hex[:6]}.h5")
        arguments: dict[str, Json] = {"file_path": file_path, "is_export_control": controlled, "send_to_nersc": False}
        moved = self.nursery.run(NEW_FILE, arguments)
        assert moved.completed, moved
        return file_path

    def start(self, file_path: str, *, kill: Kill | None = None, **arguments: Json) -> Child:
        return self.nursery.start(ANY, {"file_path": file_path, **arguments}, kill=kill)

    def run(self, file_path: str, *, kill: Kill | None = None, **arguments: Json) -> Ended:
        return self.start(file_path, kill=kill, **arguments).wait()

    def overview(self, file_path: str) -> Overview:
        with self.world.ledger() as ledger:
            return overview(ledger, ledger.scans.find(file_path.removeprefix("/global/")))

    def chosen(self, file_path: str) -> list[str]:
        """The sites that were decided for, in that order."""
        return [decision.site for decision in self.overview(file_path).decisions]

    def said(self, file_path: str, site: str) -> str:
        """What the newest decision says of a site."""
        candidate = self.overview(file_path).decisions[-1].candidate(site)
        assert candidate is not None
        return candidate.sentence

    def began(self, file_path: str) -> int:
        """How often a program was started on the data of this scan, at any site."""
        log = self.world.jobs_log
        lines = log.read_text().splitlines() if log.exists() else []
        return sum(1 for line in lines if Path(json.loads(line)["scan"]).stem == Path(file_path).stem)

    def stage(self, file_path: str, step: str) -> str:
        """The state of a stage; empty if it was not come to."""
        found = [stage for stage in self.overview(file_path).operations if stage.step == step]
        return found[-1].state.value if found else ""

    def events(self, file_path: str, step: str) -> list[str]:
        with self.world.ledger() as ledger:
            keys = [stage.key for stage in self.overview(file_path).operations if stage.step == step]
            return [event.event for key in keys for event in ledger.operations.history(key)]

    def collection(self, endpoint: str) -> str:
        return str(self.world.settings().endpoint(endpoint).require_uuid())


def wait_for(true: Callable[[], object], *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen"
        threading.Event().wait(0.05)


SITING: Mapping[str, float] = {
    "look_seconds": 0.3,
    "silence_seconds": 2.0,
    "answer_seconds": 60.0,
    "preference_seconds": 100_000.0,
}
