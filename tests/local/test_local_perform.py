"""Whole operations through the ledger by processes that are killed at every step."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orchestration.ledger import Ledger

PROGRAM = """
    import os, signal, sys
    from pathlib import Path
    from orchestration.config import Endpoint
    from orchestration.jobs import JobSpec, Output
    from orchestration.ledger import Ledger
    from orchestration.ledger.boundary import listening
    from orchestration.ledger.operation import Operation
    from orchestration.ledger.perform import perform
    from orchestration.local.delete import LocalDelete
    from orchestration.local.jobs import LocalJobs
    from orchestration.local.transfer import LocalTransfer
    from orchestration.paths import RelativePath
    from orchestration.policy import Place, Zone
    from orchestration.transfers import DeleteRequest, TransferRequest

    top, kill_at = Path(sys.argv[1]), int(sys.argv[2])
    count = 0

    def listener(boundary, subject):
        global count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    here = Endpoint(root_path="/data", mount=top / "data").known_as("data")
    there = Endpoint(root_path="/backup", mount=top / "backup").known_as("backup")
    path = RelativePath("scan.h5")
    job = JobSpec(
        executable=sys.executable,
        arguments=("-S", "-c", "open('runs', 'a').write('x'); open('out', 'w').write('out')"),
        directory=str(top / "work"),
        duration=20.0,
        outputs=(Output(path="out"),),
    )
    steps = [
        ("copy", TransferRequest.of(path, source=here, destination=there), LocalTransfer(state=top / "state")),
        ("run", job, LocalJobs(folder=top / "jobs", slots=2)),
        ("delete", DeleteRequest(endpoint=here, paths=(path,)), LocalDelete(state=top / "state")),
    ]
    with Ledger(f"sqlite:///{top}/ledger.sqlite") as ledger, listening(listener):
        scan = ledger.scans.register(beamline="bl832", path=path, fingerprint="1:2")
        for step, request, service in steps:
            place = Place(name="this machine", zone=Zone.BEAMLINE)
            operation = Operation(scan=scan, step=step, request=request, destination=place, deadline=30.0)
            perform(ledger, operation, service)
"""


def run(folder: Path, kill_at: int) -> int:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), str(kill_at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode > 0:
        sys.stderr.write(done.stderr)
    return done.returncode


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_killed_again_and_again_everything_happens_once(tmp_path: Path, stride: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "backup").mkdir()
    (tmp_path / "data" / "scan.h5").write_bytes(b"x" * 1000)
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"):
        pass  # the schema is there before anybody is killed

    kill_at = stride * 3
    kills = 0
    while (code := run(tmp_path, kill_at)) != 0:
        assert code == -signal.SIGKILL
        kills += 1
        kill_at += stride * 2
        assert kills < 25

    assert kills > 2
    assert (tmp_path / "work" / "runs").read_text() == "x"
    assert (tmp_path / "backup" / "scan.h5").read_bytes() == b"x" * 1000
    assert list((tmp_path / "data").iterdir()) == []
