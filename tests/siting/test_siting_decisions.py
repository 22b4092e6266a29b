"""Decisions in the ledger: who decides first decides for all, and people can read why."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestration.cli import beamline
from orchestration.ledger import Ledger
from orchestration.ledger.decisions import Candidate, DecisionRecord, Verdict
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.policy import Effect, Place, Zone

PROJECT = Path(__file__).parents[2]
NERSC = Candidate(
    site="nersc", verdict=Verdict.CHOSEN, reasons=("up", "queue wait lately 40 s"), facts={"zone": "external"}
)
ALCF = Candidate(site="alcf", verdict=Verdict.PASSED_OVER, reasons=("down (cooling)",))
DAY = 24 * 3600.0


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=RelativePath("raw/p/a.h5"), fingerprint="1")


def decide(
    ledger: Ledger, scan: Scan, site: str, *, run: str = "run", instead_of: DecisionRecord | None = None
) -> DecisionRecord:
    candidates = (Candidate(site=site, verdict=Verdict.CHOSEN, reasons=("up",)), ALCF)
    return ledger.decisions.decide(
        scan_id=scan.id,
        run_id=run,
        subject="s",
        step="reconstruct",
        site=site,
        candidates=candidates,
        instead_of=instead_of,
    )


def test_a_decision_is_read_as_it_was_made(ledger: Ledger, scan: Scan) -> None:
    made = ledger.decisions.decide(
        scan_id=scan.id,
        run_id="r",
        subject="s",
        step="reconstruct",
        site="nersc",
        candidates=[NERSC, ALCF],
        instead_of=None,
    )
    assert ledger.decisions.newest("s") == made
    assert ledger.decisions.of_scan(scan.id) == [made]
    assert made.candidates == (NERSC, ALCF)
    assert made.candidate("alcf") == ALCF
    assert made.candidate("olcf") is None
    assert ledger.decisions.newest("another") is None


def test_the_newest_decision_holds_and_the_older_ones_stay(ledger: Ledger, scan: Scan) -> None:
    first = decide(ledger, scan, "nersc")
    second = decide(ledger, scan, "local", instead_of=first)
    assert ledger.decisions.newest("s") == second
    assert [each.site for each in ledger.decisions.of_scan(scan.id)] == ["nersc", "local"]


def test_who_did_not_know_of_a_decision_gets_it_and_writes_none(ledger: Ledger, scan: Scan) -> None:
    first = decide(ledger, scan, "nersc", run="one")
    assert decide(ledger, scan, "alcf", run="two") == first
    second = decide(ledger, scan, "local", run="one", instead_of=first)
    assert decide(ledger, scan, "alcf", run="two", instead_of=first) == second
    assert len(ledger.decisions.of_scan(scan.id)) == 2


def test_many_that_decide_at_once_agree(ledger: Ledger, scan: Scan) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def run(number: int) -> None:
        start.wait()
        found.append(decide(ledger, scan, f"site{number}", run=str(number)).site)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(ledger.decisions.of_scan(scan.id)) == 1


def test_a_page_about_a_scan_says_where_it_went_and_why_not_elsewhere(
    ledger: Ledger, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decide(ledger, scan, "nersc")
    left = Candidate(site="nersc", verdict=Verdict.LEFT, reasons=("nersc went down (cooling)",))
    chosen = Candidate(site="local", verdict=Verdict.CHOSEN, reasons=("up", "raw data already there"))
    ledger.decisions.decide(
        scan_id=scan.id,
        run_id="run",
        subject="s",
        step="reconstruct",
        site="local",
        candidates=[left, chosen],
        instead_of=first,
    )
    monkeypatch.setenv("BEAMLINE_CONFIG", str(PROJECT / "config.yml"))
    monkeypatch.setenv("BEAMLINE_LEDGER_URL", ledger.url)
    page = CliRunner().invoke(beamline, ["show", "a.h5"], catch_exceptions=False).output
    assert "reconstruct: nersc, decided " in page
    assert "  alcf: passed over: down (cooling)" in page.splitlines()
    assert "  nersc: left: nersc went down (cooling)" in page.splitlines()
    assert "  local: chosen: up, raw data already there" in page.splitlines()
    found = json.loads(CliRunner().invoke(beamline, ["show", "a.h5", "--json"], catch_exceptions=False).output)
    assert [each["site"] for each in found["decisions"]] == ["nersc", "local"]
    assert found["decisions"][1]["candidates"][0]["sentence"] == "nersc: left: nersc went down (cooling)"


class _Errand:
    effect = Effect.COMPUTE
    directory, reads, writes = "/", (), ()

    def __init__(self, name: str) -> None:
        self.name = name

    def document(self) -> Document:
        return {"name": self.name}


def finished(
    ledger: Ledger, scan: Scan, name: str, evidence: Document | None, *, service: str = "nersc.jobs@n"
) -> None:
    """A job that ended well; without evidence, one that goes on."""
    place = Place("here", Zone.BEAMLINE)
    operation = Operation(scan=scan, step=name, request=_Errand(name), destination=place, deadline=10.0)
    owner = Owner.here()
    assert ledger.operations.take(operation, owner, service=service, redo=True)
    if evidence is not None:
        ledger.operations.succeeded(operation.key, owner, evidence)


def test_a_queue_is_known_by_the_middle_of_what_its_last_jobs_waited(tmp_path: Path) -> None:
    now = [1_000_000.0]
    with Ledger(f"sqlite:///{tmp_path}/queues.sqlite", clock=lambda: now[0]) as ledger:
        scan = ledger.scans.register(beamline="bl832", path=RelativePath("raw/p/a.h5"), fingerprint="1")
        assert ledger.queues.of("nersc.jobs@n", seconds=DAY, most=3).wait is None
        finished(ledger, scan, "old", {"queue_seconds": 9999.0})
        now[0] += 2 * DAY
        for name, wait in {"a": 500.0, "b": 40.0, "c": 30.0, "d": 50.0}.items():
            finished(ledger, scan, name, {"queue_seconds": wait, "run_seconds": 7.0})
            now[0] += 1.0
        finished(ledger, scan, "unknown", {"queue_seconds": None})
        finished(ledger, scan, "elsewhere", {"queue_seconds": 1.0}, service="nersc.jobs@m")
        finished(ledger, scan, "goes on", None)
        queue = ledger.queues.of("nersc.jobs@n", seconds=DAY, most=4)
        assert list(queue.waits) == [50.0, 30.0, 40.0]
        assert (queue.wait, queue.run, queue.going_on) == (40.0, 7.0, 1)
