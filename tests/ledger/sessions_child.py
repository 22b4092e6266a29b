"""Performs one operation at a service that takes few at once: ``sessions_child.py LEDGER FOLDER NAME``."""

from __future__ import annotations

import sys
from pathlib import Path

from ledger_world import ELSEWHERE, Books, Errand

from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import perform
from orchestration.ledger.service import Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.policy import Permitted

MOST = 3


class FewAtOnce(Books):
    """Writes down how many were there when one more came."""

    sessions = MOST

    def submit(self, permitted: Permitted[Errand], token: str) -> str:
        request, handle = permitted.request, super().submit(permitted, token)
        (self.root / "live").mkdir(exist_ok=True)
        (self.root / "live" / request.name).touch()
        (self.root / "seen" / request.name).write_text(str(len([*(self.root / "live").iterdir()])))
        return handle

    def poll(self, request: Errand, handle: str) -> Status:
        status = super().poll(request, handle)
        if isinstance(status, Succeeded):
            (self.root / "live" / request.name).unlink(missing_ok=True)
        return status


def main(url: str, folder: str, name: str) -> None:
    root = Path(folder)
    (root / "seen").mkdir(parents=True, exist_ok=True)
    with Ledger(url) as ledger:
        scan = ledger.scans.register(beamline="bl", path=RelativePath(name))
        errand = Errand(name, polls=4)
        operation = Operation(scan=scan, step="errand", request=errand, destination=ELSEWHERE, deadline=60.0)
        perform(ledger, operation, FewAtOnce(root))


if __name__ == "__main__":
    main(*sys.argv[1:])
