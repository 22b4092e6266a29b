"""An IRI facility in the test's process, spoken to directly or by the adapter."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from iri_contract import Contract

from orchestration.config import IriSite
from orchestration.iri.jobs import IriJobs, Patience
from orchestration.jobs import JobSpec, Output
from orchestration.ledger.service import Failed, Running, Status
from orchestration.sandbox.iri.client import IriClient as Control
from orchestration.sandbox.iri.inventory import identifier
from orchestration.sandbox.iri.settings import COMPUTE, STORAGE, TOKEN
from orchestration.sandbox.testing import RunningFacility

CLUSTER, SCRATCH = identifier("resource", COMPUTE), identifier("resource", STORAGE)
VERSIONS = (1, 2)
QUICK = Patience(settle=0.3, unknown=0.3, report=0.4)


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait for something that happens elsewhere."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(0.01)


@dataclass
class Ground:
    """`folder` belongs to one test; jobs and files may be in it."""

    facility: RunningFacility
    folder: Path
    contracts: Mapping[int, Contract] = field(default_factory=dict)
    """What all traffic of the adapter is held to."""
    steered: bool = False
    """Whether the test changed how the facility behaves."""
    _open: list[IriJobs] = field(default_factory=list)

    @property
    def control(self) -> Control:
        self.steered = True
        return self.facility.client.iri

    def site(self, version: int, **changes: Any) -> IriSite:
        words: dict[str, Any] = {
            "kind": "iri",
            "api_url": f"{self.facility.url}/iri",
            "version": version,
            "resource": COMPUTE,
            "raw_endpoint": "raw",
            "scratch_endpoint": "scratch",
            "job_folder": str(self.folder / "jobs"),
            "python": sys.executable,
            "account": "als",
        }
        return IriSite(**(words | changes)).known_as("iri")

    def jobs(self, version: int, *, patience: Patience = QUICK, **changes: Any) -> IriJobs:
        """As another process would have them: with no memory."""
        made = IriJobs(self.site(version, **changes), patience=patience)
        self._open.append(made)
        if contract := self.contracts.get(version):
            hooks = made.client._http.event_hooks
            hooks["request"].append(contract.check_request)
            hooks["response"].append(lambda response: contract.check(response.request, response))
        return made

    @property
    def used(self) -> bool:
        """Whether there may be jobs of the test."""
        return bool(self._open)

    def close(self) -> None:
        for each in self._open:
            each.close()

    def spec(self, code: str = "open('out', 'w').write('x')", **changes: Any) -> JobSpec:
        """A job that runs some Python; it notes each time that it does in the file ``runs``."""
        words: dict[str, Any] = {
            "executable": sys.executable,
            "arguments": ("-S", "-c", f"open('runs', 'a').write('x')\n{code}"),
            "directory": str(self.folder / "work"),
            "duration": 20.0,
            "outputs": (Output(path="out"),),
            "name": "test",
        }
        return JobSpec(**(words | changes))

    @property
    def runs(self) -> int:
        """How often the program of a job began."""
        path = self.folder / "work" / "runs"
        return len(path.read_text()) if path.exists() else 0

    def submitted(self) -> int:
        """How many jobs of this test the facility accepted."""
        return len(self.mine())

    def mine(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.facility.client.iri.jobs() if self.folder.name in str(row["name"])]

    def token(self, jobs: IriJobs) -> str:
        """A token that tells this test's jobs from those of others."""
        return jobs.reserve(self.folder.name)

    def alive(self) -> list[dict[str, Any]]:
        return [row for row in self.mine() if row["state"] in {"new", "queued", "held", "active"}]


def ended(jobs: IriJobs, spec: JobSpec, handle: str, *, seconds: float = 60.0) -> Status:
    """How the job ended, once it has."""
    end = time.monotonic() + seconds
    while isinstance(status := jobs.poll(spec, handle), Running):
        assert time.monotonic() < end, status
        time.sleep(0.03)
    return status


def failure(status: Status) -> Failed:
    assert isinstance(status, Failed), status
    return status


def http(facility: RunningFacility, version: int, **options: Any) -> httpx.Client:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.Client(base_url=f"{facility.url}/iri/api/v{version}", headers=headers, verify=False, **options)
