"""A program that performs one job and kills itself: ``killed_job.py LEDGER WHEN SITE FOLDER``.

WHEN is a boundary of the ledger, or ``accepted``: the API has taken the submission and this process has heard so.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from nersc_ground import QUICK, job_operation

from orchestration.config import NerscSite, credentials
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.perform import perform
from orchestration.nersc.calls import Calls
from orchestration.nersc.jobs import NerscJobs


def main(ledger_url: str, when: str, site: str, folder: str) -> None:
    jobs = NerscJobs(NerscSite.model_validate_json(site), credentials(), patience=QUICK)
    if when == "accepted":
        _kill_after_submission()

    def listener(boundary: Boundary, _subject: str) -> None:
        if boundary.value == when:
            _die()

    with Ledger(ledger_url, lease_seconds=1.0) as ledger, listening(listener):
        perform(ledger, job_operation(ledger, Path(folder)), jobs)


def _kill_after_submission() -> None:
    send = Calls.submit

    def submit(self: Calls, script: str) -> str:
        send(self, script)
        _die()
        raise AssertionError

    Calls.submit = submit  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
