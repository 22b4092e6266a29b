"""A program that performs one job by Globus Compute and kills itself: ``killed_compute.py LEDGER WHEN SITE FOLDER``.

WHEN is a boundary of the ledger, or ``accepted``: the service has taken the submission and this process has heard so.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from compute_jobs import CREDENTIALS, job_operation

from orchestration.config import GlobusComputeSite
from orchestration.globus.compute import GlobusCompute
from orchestration.globus.compute_tasks import ComputeTasks
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.perform import perform


def main(url: str, when: str, site: str, folder: str) -> None:
    def listener(boundary: Boundary, _subject: str) -> None:
        if boundary.value == when:
            _die()

    if when == "accepted":
        _kill_after_submission()
    service = GlobusCompute(GlobusComputeSite.model_validate_json(site), CREDENTIALS)
    with Ledger(url, lease_seconds=0.5) as ledger, listening(listener):
        perform(ledger, job_operation(ledger, Path(folder)), service)


def _kill_after_submission() -> None:
    send = ComputeTasks.submit

    def submit(self: ComputeTasks, *arguments: Any, **options: Any) -> str:
        send(self, *arguments, **options)
        _die()
        raise AssertionError

    ComputeTasks.submit = submit  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
