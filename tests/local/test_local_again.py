"""A job of this machine whose supervisor was killed, as when a worker is updated, is done again, once."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestration.config import LocalSite, Settings
from orchestration.errors import JobLost
from orchestration.flows.computing import compute
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.service import PollSchedule, Progress
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone


@dataclass
class Bench(Work):
    """Performs without Prefect's stages, kills the supervisors of the first jobs, and lets the others go."""

    kills: int = 0
    killed: set[str] = field(default_factory=set)

    def perform(
        self, operation: Operation[Any], service: Any, *, schedule: PollSchedule | None = None, redo: bool = True
    ) -> Outcome:
        return perform(
            self.ledger, operation, service, run_id=self.run_id, schedule=schedule, redo=redo, on_progress=self._kill
        )

    def _kill(self, _step: str, progress: Progress) -> None:
        (operation,) = self.ledger.operations.open()
        token = str(operation.token)
        if progress.note != "ready" or token in self.killed:
            return
        if len(self.killed) == self.kills:
            Path(str(operation.request["directory"]), "go").touch()
            return
        started = self.services.local_jobs.folder / token / "started.json"
        os.kill(json.loads(started.read_text())["pid"], signal.SIGKILL)
        self.killed.add(token)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("BEAMLINE_STATE", str(tmp_path / "state"))
    settings = Settings()
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        ledger.runs.begin(run_id="run", flow="local_recon_flow", parameters={}, owner=Owner.here())
        yield Bench(
            settings, ledger, Services(settings), "run", logging.getLogger("test"), Suspension(ledger, "run", None, 9.0)
        )


def operation(bench: Bench, tmp_path: Path) -> Operation[JobSpec]:
    code = """
import os, time
open("runs", "a").write("x")
open(os.environ["ORCHESTRATION_PROGRESS_FILE"], "a").write('{"note": "ready"}\\n')
while not os.path.exists("go"): time.sleep(0.02)
"""
    spec = JobSpec(
        executable=sys.executable, arguments=("-S", "-c", code), directory=str(tmp_path / "work"), duration=60.0
    )
    scan = bench.ledger.scans.register(beamline="bl832", path=RelativePath("a.h5"), fingerprint="1")
    return Operation(scan=scan, step="reconstruct", request=spec, destination=Place("here", Zone.BEAMLINE), deadline=60)


@pytest.mark.parametrize(("kills", "runs"), [(1, 2), (2, 2)])
def test_a_lost_job_is_submitted_again_once(bench: Bench, tmp_path: Path, kills: int, runs: int) -> None:
    site = LocalSite(name="local", kind="local", raw_endpoint="raw", scratch_endpoint="scratch")
    bench.kills = kills
    asked = operation(bench, tmp_path)
    if kills > 1:
        with pytest.raises(JobLost):
            compute(bench, asked, site)
    else:
        assert compute(bench, asked, site).record.attempt == 2
    assert (tmp_path / "work" / "runs").read_text() == "x" * runs
