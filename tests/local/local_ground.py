"""What the tests of copies between directories of this machine share."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

from orchestration.config import Endpoint
from orchestration.errors import (
    OrchestrationError,
)
from orchestration.ledger.service import Failed, Running, Status
from orchestration.local.transfer import LocalTransfer
from orchestration.paths import RelativePath
from orchestration.sandbox.testing import submit
from orchestration.transfers import TransferRequest


def request_of(here: Endpoint, there: Endpoint, *names: str) -> TransferRequest:
    return TransferRequest.of([RelativePath(name) for name in names], source=here, destination=there)


def wait(mover: LocalTransfer, request: TransferRequest, token: str = "t1") -> Status:
    end = time.monotonic() + 60
    while isinstance(status := mover.poll(request, token), Running):
        assert time.monotonic() < end, status
        time.sleep(0.01)
    return status


def copy(mover: LocalTransfer, request: TransferRequest, token: str = "t1") -> Status:
    submit(mover, request, token)
    return wait(mover, request, token)


def failure(status: Status) -> OrchestrationError:
    assert isinstance(status, Failed), status
    return status.error


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run(tmp_path: Path, code: str) -> int:
    """Run `code` in a process of its own, with a copy of scan.h5 prepared; returns its exit status."""
    head = f"""
        import os, resource, signal, time
        from pathlib import Path
        from orchestration.config import Endpoint
        from orchestration.errors import *
        from orchestration.ledger.service import Running
        from orchestration.local.transfer import LocalTransfer
        from orchestration.paths import RelativePath
        from orchestration.sandbox.testing import submit
        from orchestration.transfers import TransferRequest
        tmp = Path({str(tmp_path)!r})
        (tmp / "backup").mkdir(exist_ok=True)
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        here = Endpoint(root_path="/data", mount=tmp / "data").known_as("data")
        there = Endpoint(root_path="/backup", mount=tmp / "backup").known_as("backup")
        request = TransferRequest.of(RelativePath("scan.h5"), source=here, destination=there)
        (tmp / "state").mkdir(exist_ok=True)
        (tmp / "state").chmod(0o777)
        mover = LocalTransfer(state=tmp / "state")

        def become_nobody():
            if os.getuid() == 0:
                os.setuid(65534)

        def finish(mover, request):
            submit(mover, request, "t1")
            while isinstance(status := mover.poll(request, "t1"), Running):
                time.sleep(0.01)
            return status
    """
    whole = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)
    if done.returncode > 0:
        sys.stderr.write(done.stderr)
    return done.returncode
