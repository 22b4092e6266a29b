"""Publishes one record and kills itself at a boundary of the ledger: ``killed_publish.py LEDGER WHERE``."""

from __future__ import annotations

import os
import signal
import sys

from globus_ground import CREDENTIALS
from search_ground import FAST, a_request, a_scan, publication

from orchestration.globus.search import GlobusPublish
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.perform import perform


def main(ledger_url: str, where: Boundary) -> None:
    def listener(boundary: Boundary, _: str) -> None:
        if boundary is where:
            os.kill(os.getpid(), signal.SIGKILL)

    with Ledger(ledger_url) as ledger, listening(listener):
        operation = publication(a_scan(ledger), a_request())
        perform(ledger, operation, GlobusPublish.connect(CREDENTIALS), schedule=FAST)


if __name__ == "__main__":
    main(sys.argv[1], Boundary(sys.argv[2]))
