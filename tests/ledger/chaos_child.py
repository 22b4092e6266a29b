"""A run of several operations that is killed, for real, at the boundary it is told.

This process imports everything once and forks for each line of its input, ``<boundary> <ledger url> <books>``; it
answers with the exit status and the number of boundaries that were reached.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

from ledger_world import QUICK, Books, Errand, errand

from orchestration.errors import DeadlinePassed
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.copy import Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.results import Receipt
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath

PATH = RelativePath("raw/p1/tooth.h5")
EVERYTHING = ("move", "reconstruct", "publish", "catalogue")


def run(url: str, books: Path) -> None:
    with Ledger(url) as ledger:
        scan = ledger.scans.register(beamline="bl832", path=PATH, fingerprint="1:2")
        ledger.runs.begin(run_id="run", flow="all", parameters={}, owner=Owner.here(), scan_id=scan.id)
        moved = perform(ledger, errand(scan, "move", polls=1), Books(books), run_id="run", schedule=QUICK)
        record_copy(ledger, scan, moved.record.key)
        made = perform(
            ledger,
            errand(scan, "reconstruct"),
            Books(books, lose_answers=1, retry_after=0.005),
            run_id="run",
            schedule=QUICK,
        )
        record_result(ledger, scan, made.record.key)
        perform(
            ledger,
            errand(scan, "publish"),
            Books(books, refuse=1, silent_polls=1, retry_after=0.005),
            run_id="run",
            schedule=QUICK,
        )
        perform(
            ledger,
            errand(scan, "catalogue"),
            Books(books, idempotent=True, lose_answers=1, retry_after=0.005),
            schedule=QUICK,
        )
        too_slow(ledger, scan, books)
        ledger.runs.finish("run", RunState.COMPLETED)


def too_slow(ledger: Ledger, scan: Scan, books: Path) -> None:
    try:
        perform(ledger, late(scan), Books(books), run_id="run", schedule=QUICK)
    except DeadlinePassed:
        return
    raise RuntimeError("it should have been too late")


def late(scan: Scan) -> Operation[Errand]:
    return errand(scan, "late", polls=10**6, deadline=0.02)


def record_copy(ledger: Ledger, scan: Scan, key: str) -> None:
    ledger.copies.record(
        scan_id=scan.id,
        dataset="raw",
        endpoint="data832",
        path=PATH,
        role=Role.REPLICA,
        manifest=[FileEvidence(path="", size=3)],
        method="sizes",
        verified_by=key,
    )


def record_result(ledger: Ledger, scan: Scan, key: str) -> None:
    receipt = Receipt(
        inputs=(), parameters={}, code_version="1", environment={}, site="here", job="1", timings={}, quality={}
    )
    ledger.results.record(
        scan_id=scan.id, operation_key=key, kind="rec", endpoint="here", path=PATH.beside("rec"), receipt=receipt
    )


def killed_at(number: int, url: str, books: Path, count: int) -> None:
    """In the forked process: run, and die at boundary `number` (0: never); `count` is written at the end."""
    seen = 0

    def listener(_boundary: Boundary, _subject: str) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    with listening(listener):
        run(url, books)
    os.write(count, str(seen).encode())


def main() -> None:
    for line in sys.stdin:
        number, url, books = line.split()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                killed_at(int(number), url, Path(books), write)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(70)
        os.close(write)
        _, status = os.waitpid(pid, 0)
        seen = os.read(read, 100).decode() or "0"
        os.close(read)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)} {seen}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
