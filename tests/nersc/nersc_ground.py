"""The facility that the tests of this folder work on, and the jobs they give it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestration.config import Credentials, NerscSite
from orchestration.jobs import JobSpec, Output
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.service import Failed, Status, Succeeded
from orchestration.nersc.jobs import NerscJobs
from orchestration.nersc.memory import Patience
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone
from orchestration.sandbox.superfacility.client import JobInfo, SuperfacilityClient
from orchestration.sandbox.testing import RunningFacility

QUICK = Patience(settle=0.4, task=60.0, report=0.5, unknown=60.0, accounting=0.0, cancel=60.0, status=0.0)
"""Where tests wait for what comes, longer than that may take on a slow machine."""

UNTIL_GO = "touch begun; while [ ! -e go ]; do sleep 0.02; done"
"""A program that ends when `Ground.go` says so."""


@dataclass(frozen=True)
class Ground:
    facility: RunningFacility
    site: NerscSite
    credentials: Credentials
    folder: Path
    patience: Patience = field(default=QUICK)

    @property
    def control(self) -> SuperfacilityClient:
        return self.facility.client.superfacility

    def jobs(self, **patience: float) -> NerscJobs:
        """As a process that was just started has it."""
        return NerscJobs(self.site, self.credentials, patience=replace(self.patience, **patience))

    def shell(self, text: str, *, name: str = "reconstruct", outputs: tuple[str, ...] = (), **changes: Any) -> JobSpec:
        return JobSpec(
            executable="/bin/sh",
            arguments=("-c", text),
            directory=str(self.folder / "work"),
            outputs=tuple(Output(path=path) for path in outputs),
            name=name,
            **({"duration": 30.0} | changes),
        )

    def real(self, key: str) -> list[JobInfo]:
        """The jobs of this key or token that Slurm really has or had."""
        return [job for job in self.control.jobs() if job.name.startswith(f"beamline.{key}")]

    def work(self, name: str) -> Path:
        """A file in the directory of the jobs."""
        return self.folder / "work" / name

    def go(self) -> None:
        self.work("go").parent.mkdir(exist_ok=True)
        self.work("go").touch()

    def left(self, handle: str, name: str) -> Path:
        """A file in the folder of a job."""
        return self.folder / "jobs" / token_of(handle) / name

    def asked(self) -> int:
        """How many jobs were ever accepted."""
        return len(self.facility.client.effects("job"))


def ended(jobs: NerscJobs, spec: JobSpec, handle: str, *, within: float = 60.0) -> Status:
    """What polling gives in the end."""
    until = time.monotonic() + within
    while True:
        status = jobs.poll(spec, handle)
        if isinstance(status, Succeeded | Failed):
            return status
        assert time.monotonic() < until, status
        time.sleep(0.05)


def failed(jobs: NerscJobs, spec: JobSpec, handle: str) -> Failed:
    """As what polling says in the end that it failed."""
    status = ended(jobs, spec, handle)
    assert isinstance(status, Failed), status
    return status


def token_of(handle: str) -> str:
    return handle.partition(" ")[2]


def until(true: Callable[[], bool], *, within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def job_operation(ledger: Ledger, folder: Path, *, deadline: float = 60.0, text: str = "") -> Operation[JobSpec]:
    """Writes a line each time that it is run."""
    scan = ledger.scans.register(beamline="bl832", path=RelativePath("scan.h5"), fingerprint="1:2")
    spec = JobSpec(
        executable="/bin/sh",
        arguments=("-c", text or "echo run >> runs.txt"),
        directory=str(folder / "work"),
        duration=30.0,
        outputs=() if text else (Output(path="runs.txt"),),
        name="reconstruct",
    )
    place = Place(name="perlmutter", zone=Zone.EXTERNAL)
    return Operation(scan=scan, step="reconstruct", request=spec, destination=place, deadline=deadline)
