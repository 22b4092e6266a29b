"""A small facility whose histories are made up: four places on disk, a ledger, and the flows that copy and delete.

All that decides and all that acts is the real thing: the ledger, the proofs, the flows' own functions, the movers of
this machine. Left out are Prefect, whose calendar is a list here, and the processes in which checksums are computed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestration.config import Settings
from orchestration.config.policies import STATE_VARIABLE
from orchestration.errors import OperationFailed, OrchestrationError
from orchestration.flows.calendar import schedule_pruning
from orchestration.flows.copying import Dataset, copy, record_source
from orchestration.flows.nightly import Night, due_by_endpoint
from orchestration.flows.pruning import prune, prune_copies
from orchestration.flows.pruning_together import prune_together
from orchestration.flows.restoring import restore
from orchestration.flows.runs import RunRequest
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.copy import RAW, CopyRecord, CopyState
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import (
    CancelAnswer,
    Failed,
    PollSchedule,
    Service,
    Status,
    Succeeded,
)
from orchestration.local.delete import LocalDelete
from orchestration.local.files import inspect
from orchestration.local.rename import LocalRename
from orchestration.local.transfer import LocalTransfer
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.policy import Permitted, Place, Zone, opened
from orchestration.science.checksums.cli import checksums
from orchestration.science.errors import ScienceError
from orchestration.transfers import DeleteRequest

DAY = 24 * 3600.0
BEAMLINE = "bl832"
PLACES = ("detector", "server", "archive", "cold")
NEAR = ("detector", "server")
GRACE_DAYS = 2.0
KEPT_DAYS = {"detector": 1.0, "server": 10.0, "archive": 20.0}


class Crash(BaseException):
    """The process is gone."""


def settings(folder: Path) -> Settings:
    endpoints = {
        name: {
            "root_path": f"/{name}",
            "mount": str(folder / name),
            "zone": "beamline" if name in NEAR else "external",
        }
        for name in PLACES
    }
    rules = {
        "detector": {
            "after_days": KEPT_DAYS["detector"],
            "requires": {"any_of": ["server", "archive"]},
            "evidence_days": 0,
        },
        "server": {
            "after_days": KEPT_DAYS["server"],
            "requires": {"any_of": ["archive", "cold"]},
            "evidence_days": 7,
            "grace_days": GRACE_DAYS,
        },
        "archive": {
            "after_days": KEPT_DAYS["archive"],
            "requires": {"any_of": ["detector", "server", "cold"], "min_copies": 2},
            "evidence_days": 0,
        },
    }
    return Settings.model_validate({"globus": {"globus_endpoints": endpoints}, "retention": rules}, context=folder)


@dataclass
class Calendar:
    """In place of Prefect's: what is to run when."""

    name: str = "prefect.schedule"
    immediate: bool = True
    timers: list[RunRequest] = field(default_factory=list)

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: RunRequest, token: str) -> str | None:
        return token if request in self.timers else None

    def submit(self, permitted: Permitted[RunRequest], token: str) -> str:
        self.timers.append(opened(permitted, RunRequest))
        return token

    def poll(self, request: RunRequest, handle: str) -> Status:
        return Succeeded()

    def cancel(self, handle: str) -> CancelAnswer:
        return CancelAnswer.CANCELLED


@dataclass
class Checksums:
    """In place of the runner of jobs: computes checksums by the science command, in this process."""

    name: str = "local.jobs"
    immediate: bool = True
    place: Place = field(default=Place("local", Zone.BEAMLINE))

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: JobSpec, token: str) -> str | None:
        return None

    def submit(self, permitted: Permitted[JobSpec], token: str) -> str:
        request = opened(permitted, JobSpec, at=self.place)
        try:
            checksums.main(args=list(request.arguments[3:]), standalone_mode=False)
        except (OSError, ScienceError) as error:
            raise OperationFailed(f"the checksums could not be computed: {error}") from error
        return token

    def poll(self, request: JobSpec, handle: str) -> Status:
        path = request.outputs[0].path
        return Succeeded(evidence={"outputs": [{"path": path, "content": json.loads(Path(path).read_text())}]})

    def cancel(self, handle: str) -> CancelAnswer:
        return CancelAnswer.ALREADY_FINISHED


@dataclass
class Deletions:
    """The deletions of this machine, which fail when they are told to: nothing is deleted then."""

    inner: LocalDelete
    fail: bool = False

    @property
    def name(self) -> str:
        return self.inner.name

    def reserve(self, key: str) -> str:
        return self.inner.reserve(key)

    def find(self, request: DeleteRequest, token: str) -> str | None:
        return self.inner.find(request, token)

    def submit(self, permitted: Permitted[DeleteRequest], token: str) -> str:
        return f"fails {token}" if self.fail else self.inner.submit(permitted, token)

    def poll(self, request: DeleteRequest, handle: str) -> Status:
        if handle.startswith("fails "):
            return Failed(error=OperationFailed("the disk did not delete it", where=request.endpoint.name))
        return self.inner.poll(request, handle)

    def cancel(self, handle: str) -> CancelAnswer:
        return self.inner.cancel(handle)


class Bench(Work):
    """The bench of a run, without Prefect's stages."""

    def _stage(
        self,
        operation: Operation[Any],
        service: Service[Any],
        schedule: PollSchedule | None,
        moves_after: float | None,
        *,
        redo: bool,
    ) -> Outcome:
        quick = PollSchedule(first=0.001)
        return perform(self.ledger, operation, service, run_id=self.run_id, schedule=quick, redo=redo)


@dataclass(frozen=True)
class File:
    """One file on disk, as it is at one moment."""

    place: str
    path: str
    content: bytes


class World:
    """One history. Names of scans are numbers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (*PLACES, "outside", "state"):
            (folder / name).mkdir(parents=True)
        self.settings = settings(folder)
        self.clock = time.time()
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", lease_seconds=60.0, clock=lambda: self.clock)
        self.calendar = Calendar()
        self.deletions = Deletions(LocalDelete(state=folder / "state"))
        self.said: list[str] = []
        """Why things were not done, in words for people."""
        self._down: set[str] = set()
        self._quiet = logging.getLogger("orchestration")
        self._level, self._state = self._quiet.level, os.environ.get(STATE_VARIABLE)
        self._quiet.setLevel(logging.CRITICAL)
        os.environ[STATE_VARIABLE] = str(folder / "state")

    def close(self) -> None:
        self._quiet.setLevel(self._level)
        os.environ.pop(STATE_VARIABLE)
        if self._state is not None:
            os.environ[STATE_VARIABLE] = self._state
        self.ledger.close()
        shutil.rmtree(self.folder)

    # ----- what people and detectors do ------------------------------------------------------------------------------

    def path(self, number: int) -> RelativePath:
        return RelativePath(f"raw/p{number % 2}/scan{number}.h5")

    def file(self, place: str, path: RelativePath) -> Path:
        return self.folder / place / path.text

    def acquire(self, number: int, content: bytes) -> None:
        file = self.file("detector", self.path(number))
        if file.parent.is_symlink():
            file.parent.unlink()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (self.clock, self.clock))

    def scan(self, number: int, *, flagged: bool = False) -> Scan:
        try:
            facts = inspect(self.settings.endpoint("detector"), self.path(number))
        except OrchestrationError:
            facts = None  # it cannot be looked at now
        return self.ledger.scans.register(
            beamline=BEAMLINE,
            path=self.path(number),
            export_controlled=flagged,
            fingerprint="" if facts is None else facts.version,
        )

    def down(self, place: str) -> None:
        """Its disk is not mounted."""
        if place not in self._down:
            (self.folder / place).rename(self.folder / f"unmounted-{place}")
            self._down.add(place)

    @property
    def is_down(self) -> bool:
        return bool(self._down)

    def up(self) -> None:
        for place in sorted(self._down):
            (self.folder / f"unmounted-{place}").rename(self.folder / place)
        self._down.clear()

    # ----- what the service does -------------------------------------------------------------------------------------

    @contextmanager
    def work(self) -> Iterator[Work]:
        """A run of its own."""
        services = Services(self.settings)
        vars(services).update(
            local_transfer=LocalTransfer(state=self.folder / "state"),
            local_delete=self.deletions,
            local_rename=LocalRename(),
            local_jobs=Checksums(),
            prefect_schedule=self.calendar,
        )
        run_id = str(uuid.uuid4())
        self.ledger.runs.begin(run_id=run_id, flow="history", parameters={}, owner=Owner.here())
        suspension = Suspension(self.ledger, run_id, None, 300.0)
        yield Bench(self.settings, self.ledger, services, run_id, logging.getLogger("orchestration"), suspension)

    def copy(self, number: int, source: str, destination: str) -> None:
        """As flows do: on from the server only what was carried there in this version."""
        with self.work() as work:
            scan = self.scan(number)
            if source != "detector" and not any(
                (each.endpoint, each.version, each.state) == (source, scan.fingerprint, CopyState.PRESENT)
                for each in self.ledger.copies.of_scan(scan.id)
            ):
                return
            places = [self.settings.endpoint(name) for name in (source, destination)]
            part = Dataset(name=RAW, path=scan.path)
            (made,) = copy(work, scan, [part], source=places[0], destination=places[1])
            records = [made]
            if source == "detector":
                records.append(record_source(work, scan, made, source=places[0], path=scan.path))
            for record in records:
                schedule_pruning(work, scan, record)

    def fire(self, timer: RunRequest) -> None:
        """The run that Prefect had in its calendar begins."""
        place = timer.deployment.rpartition("/")[2].removeprefix("prune_")
        endpoint = self.settings.endpoint(str(timer.parameters.get("source_endpoint", place)))
        copies = timer.parameters.get("copies")
        with self.work() as work:
            if isinstance(copies, dict):
                prune_together(work, endpoint, {path: int(str(generation)) for path, generation in copies.items()})
            else:
                path = RelativePath.parse(str(timer.parameters["relative_path"]))
                prune(work, endpoint, path, generation=int(str(timer.parameters["generation"])))

    def sweep(self) -> None:
        with self.work() as work:
            for endpoint, ids in due_by_endpoint(work, Night()).items():
                prune_copies(work, self.settings.endpoint(endpoint), self.ledger.copies.among(ids))

    def restore(self, number: int) -> None:
        with self.work() as work:
            restore(self.settings, self.ledger, work.services, self.scan(number), who="ada")

    @contextmanager
    def crashing(self, after: int | None) -> Iterator[None]:
        """The process dies at the so-many-th boundary that it reaches."""
        left = [after]

        def listen(_boundary: Boundary, _subject: str) -> None:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    left[0] = None
                    raise Crash

        with listening(listen):
            try:
                yield
            except Crash:
                self.clock += 120.0  # its leases have lapsed
                _let_movers_end()
            except OrchestrationError as error:
                self.said.append(error.sentence)  # what it left behind is looked at

    # ----- what there is ---------------------------------------------------------------------------------------------

    def files(self) -> Sequence[File]:
        """All files at places that are up, but for those that a mover is just writing or removing."""
        found: list[File] = []
        for place in PLACES:
            for folder, folders, names in os.walk(self.folder / place):
                folders[:] = [name for name in folders if not Path(folder, name).is_symlink()]
                for name in names:
                    path = Path(folder, name)
                    if name.endswith(".part"):
                        continue
                    found.append(File(place, str(path.relative_to(self.folder / place)), path.read_bytes()))
        return found

    def outside(self) -> Mapping[str, bytes]:
        top = self.folder / "outside"
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}

    def copies(self, number: int) -> Sequence[CopyRecord]:
        return self.ledger.copies.of_scan(self.scan(number).id)


def in_quarantine(file: File) -> bool:
    return file.path.startswith(f"{QUARANTINE}/")


def _let_movers_end() -> None:
    """They would have died at any moment of their work. None is to work while it is looked at what they left."""
    for thread in threading.enumerate():
        if thread.name.startswith(("copy ", "deletion at ")):
            thread.join(60.0)
