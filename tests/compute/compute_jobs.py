"""Jobs by Globus Compute, for tests."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from compute_ground import Ground
from pydantic import SecretStr

from orchestration.config import ComputeEndpoints, Container, Credentials, GlobusComputeSite
from orchestration.errors import ServiceUnavailable
from orchestration.globus.compute import GlobusCompute
from orchestration.globus.compute_ending import Patience
from orchestration.jobs import JobSpec, Output
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.service import Failed, Running, Status
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone
from orchestration.sandbox.settings import CLIENT_ID, CLIENT_SECRET

CREDENTIALS = Credentials(globus_compute_client_id=CLIENT_ID, globus_compute_client_secret=SecretStr(CLIENT_SECRET))


@dataclass(frozen=True)
class Yard:
    """A site behind the facility, and a folder for what its jobs write."""

    ground: Ground
    folder: Path

    def site(
        self,
        *,
        python: str = sys.executable,
        science_version: str | None = None,
        container: Container | None = None,
        compute: str = Ground.compute,
        login: str = Ground.login,
    ) -> GlobusComputeSite:
        return GlobusComputeSite(
            name="alcf",
            kind="globus_compute",
            raw_endpoint="raw",
            scratch_endpoint="scratch",
            job_folder=str(self.folder / "jobs"),
            python=python,
            science_version=science_version,
            container=container,
            service_url=self.ground.url,
            endpoints=ComputeEndpoints(compute=UUID(compute), non_compute=UUID(login)),
        )

    def service(self, site: GlobusComputeSite | None = None, **patience: float) -> GlobusCompute:
        """As a process makes it that has just begun."""
        return GlobusCompute(site or self.site(), CREDENTIALS, patience=Patience(**patience))

    def job(
        self,
        code: str,
        *arguments: str,
        duration: float = 30.0,
        outputs: tuple[Output, ...] = (),
        environment: dict[str, str] | None = None,
        start_within: float | None = None,
    ) -> JobSpec:
        return JobSpec(
            executable=sys.executable,
            arguments=("-S", "-c", textwrap.dedent(code), *arguments),
            directory=str(self.folder / "work"),
            duration=duration,
            outputs=outputs,
            environment=environment or {},
            start_within=start_within,
            name="reconstruct",
        )

    def counting(self, *, seconds: float = 0.0) -> JobSpec:
        return self.job(f"{COUNTING}time.sleep({seconds})\n")

    def runs(self) -> list[int]:
        """The processes that ran the counting job."""
        path = self.folder / "work" / "runs"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


COUNTING = """
import os, time
open("runs", "a").write(str(os.getpid()) + "\\n")
"""
"""Writes a line to a file each time it is run."""


def job_operation(ledger: Ledger, folder: Path, code: str = COUNTING, *, deadline: float = 60.0) -> Operation[JobSpec]:
    """The same one each time."""
    scan = ledger.scans.register(beamline="bl832", path=RelativePath("scan.h5"), fingerprint="1:2")
    request = JobSpec(
        executable=sys.executable,
        arguments=("-S", "-c", code),
        directory=str(folder / "work"),
        duration=30.0,
        name="reconstruct",
    )
    place = Place(name="alcf", zone=Zone.EXTERNAL)
    return Operation(scan=scan, step="reconstruct", request=request, destination=place, deadline=deadline)


def wait(
    service: GlobusCompute,
    spec: JobSpec,
    handle: str,
    *,
    seconds: float = 60.0,
    until: Callable[[Status], bool] = lambda status: not isinstance(status, Running),
) -> Status:
    """How it stands, once it is so; asked as `perform` asks: a service without an answer is asked again."""
    end = time.monotonic() + seconds
    while True:
        try:
            status = service.poll(spec, handle)
        except ServiceUnavailable:
            assert time.monotonic() < end
        else:
            if until(status):
                return status
            assert time.monotonic() < end, status
        time.sleep(0.02)


def failure(status: Status) -> Exception:
    assert isinstance(status, Failed), status
    return status.error


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
