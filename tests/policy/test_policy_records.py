"""What the policy answers is in the ledger: before anything is submitted, and for good."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from policy_ground import HERE, PATH, operation

from orchestration.cli import beamline
from orchestration.config import Endpoint
from orchestration.errors import ExportControlled, Unpermitted
from orchestration.ledger import Ledger
from orchestration.ledger.arrivals import Limits, Route, Waiting
from orchestration.ledger.audit import Verdict
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.copy import CopyRecord, Proven, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Request
from orchestration.local.transfer import LocalTransfer
from orchestration.paths import RelativePath
from orchestration.policy import Permitted, Zone
from orchestration.transfers import RenameRequest, TransferRequest


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=PATH)


@pytest.fixture
def here(tmp_path: Path) -> Endpoint:
    file = tmp_path / "here" / PATH.text
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    return Endpoint(root_path="/here", mount=tmp_path / "here", zone=Zone.BEAMLINE).known_as("here")


@pytest.fixture
def away(tmp_path: Path) -> Endpoint:
    (tmp_path / "away").mkdir()
    return Endpoint(root_path="/away", mount=tmp_path / "away").known_as("away")


@pytest.fixture
def mover(tmp_path: Path) -> LocalTransfer:
    return LocalTransfer(state=tmp_path / "work")


def flag(ledger: Ledger) -> None:
    ledger.scans.register(beamline="bl832", path=PATH, export_controlled=True)


def test_the_decision_is_in_the_ledger_before_the_submission(
    ledger: Ledger, scan: Scan, here: Endpoint, away: Endpoint, tmp_path: Path
) -> None:
    wanted = operation(scan, TransferRequest.of(PATH, source=here, destination=away), away.place)
    seen: list[str] = []

    class Looks(LocalTransfer):
        def submit(self, permitted: Permitted[TransferRequest], token: str) -> str:
            seen.extend(event.event for event in ledger.operations.history(wanted.key))
            return super().submit(permitted, token)

    perform(ledger, wanted, Looks(state=tmp_path / "work"))

    assert seen[-2:] == ["reserved", "permitted"]
    (decided,) = [event for event in ledger.operations.history(wanted.key) if event.event == "permitted"]
    assert decided.detail == {
        "effect": "move",
        "places": [{"name": "away", "zone": "external"}],
        "rules": ["the scan is not restricted"],
    }


def test_what_stays_at_the_beamline_is_permitted_for_that_reason(
    ledger: Ledger, scan: Scan, here: Endpoint, mover: LocalTransfer, tmp_path: Path
) -> None:
    flag(ledger)
    (tmp_path / "server").mkdir()
    server = Endpoint(root_path="/server", mount=tmp_path / "server", zone=Zone.BEAMLINE).known_as("server")
    wanted = operation(scan, TransferRequest.of(PATH, source=here, destination=server), server.place)
    perform(ledger, wanted, mover)
    permitted = ledger.operations.permissions(scan.id)[wanted.key].detail
    assert permitted is not None
    assert permitted["rules"] == ["the scan is export-controlled, and stays at the beamline"]


def test_what_is_refused_in_the_plan_is_remembered_without_an_operation(
    ledger: Ledger, url: str, scan: Scan, here: Endpoint, away: Endpoint, mover: LocalTransfer
) -> None:
    flag(ledger)
    wanted = operation(scan, TransferRequest.of(PATH, source=here, destination=away), away.place)
    with pytest.raises(ExportControlled):
        perform(ledger, wanted, mover, run_id=None)
    ledger.close()
    with Ledger(url) as again:
        (denial,) = again.audit.denials(scan.id)
        assert list(again.operations.of_scan(scan.id)) == []
        assert list(again.audit.of_scan(scan.id)) == [], "which is about deletions"
    assert denial.verdict is Verdict.DENIED
    assert denial.reason == f"scan {PATH} is export-controlled and away is outside the beamline"
    assert denial.evidence["operation"] == wanted.key
    assert denial.evidence["effect"] == "move"
    assert denial.evidence["places"] == [{"name": "away", "zone": "external"}]


def planned_in_a_batch(ledger: Ledger, wanted: Operation[Request]) -> None:
    route = Route(source="here", destination="away")
    row = Waiting(scan_id=wanted.scan.id, dataset="raw", path=PATH, version="", size=1)
    ledger.runs.begin(run_id="run", flow="batch", parameters={}, owner=Owner.here())
    ledger.arrivals.enter(route, [row], run_id="run")
    limits = Limits(files=1, bytes=1, seconds=0.0)
    ledger.arrivals.gather(route, limits, lambda *_: wanted, service="books", run_id="run")


def planned_with_a_deletion(ledger: Ledger, wanted: Operation[Request]) -> None:
    proven = Proven(copy=copied(ledger, wanted.scan))
    ledger.copies.begin_deletion([proven], wanted, service="books", run_id="run")


def planned_with_a_return(ledger: Ledger, wanted: Operation[Request]) -> None:
    copy = copied(ledger, wanted.scan)
    aside = RelativePath(".quarantine/2026-11-29/1-1/scan.h5")
    there = operation(wanted.scan, RenameRequest(endpoint=HERE, path=PATH, to=aside))
    assert not ledger.copies.begin_deletion([Proven(copy=copy)], there, service="books", run_id="run", aside=aside)
    ledger.quarantine.entered(copy, delete_after=4e9)
    ledger.quarantine.begin_return(copy, wanted, service="books")


def copied(ledger: Ledger, scan: Scan) -> CopyRecord:
    return ledger.copies.record(
        scan_id=scan.id,
        dataset="raw",
        endpoint="here",
        path=scan.path,
        role=Role.REPLICA,
        manifest=[FileEvidence(path="", size=1, checksum="md5:0")],
        method="test",
        verified_by=None,
    )


@pytest.mark.parametrize("planned", [planned_in_a_batch, planned_with_a_deletion, planned_with_a_return])
def test_what_is_refused_while_it_is_planned_with_something_else_is_remembered_as_well(
    ledger: Ledger, here: Endpoint, away: Endpoint, planned: Callable[[Ledger, Operation[Request]], None]
) -> None:
    assert PATH.parent is not None
    folder = ledger.scans.register(beamline="bl832", path=PATH.parent)
    flag(ledger)  # a file of it, and so the folder
    wanted = operation(folder, TransferRequest.of(PATH, source=here, destination=away), away.place)
    with pytest.raises(ExportControlled) as refusal:
        planned(ledger, wanted)
    (denial,) = ledger.audit.denials(folder.id)
    assert denial.reason == refusal.value.what
    assert (denial.dataset, denial.evidence["operation"]) == (wanted.step, wanted.key)
    assert denial.evidence["service"] == "books"
    assert ledger.operations.among([wanted.key]) == []
    assert not any(copy.deletion == wanted.key for copy in ledger.copies.of_scan(folder.id))


def test_a_scan_that_is_flagged_between_the_claim_and_the_submission_goes_nowhere(
    ledger: Ledger, scan: Scan, here: Endpoint, away: Endpoint, mover: LocalTransfer, tmp_path: Path
) -> None:
    wanted = operation(scan, TransferRequest.of(PATH, source=here, destination=away), away.place)

    def flags(boundary: Boundary, _: str) -> None:
        if boundary is Boundary.BEFORE_RESERVE:
            flag(ledger)

    with listening(flags), pytest.raises(ExportControlled):
        perform(ledger, wanted, mover)

    record = ledger.operations.get(wanted.key)
    assert (record.state, record.token) == (OperationState.FAILED, None)
    assert isinstance(record.error, ExportControlled)
    assert [denial.dataset for denial in ledger.audit.denials(scan.id)] == ["smuggle"]
    assert list((tmp_path / "away").iterdir()) == []


def test_a_request_that_does_not_say_what_it_does_is_refused(
    ledger: Ledger, scan: Scan, here: Endpoint, away: Endpoint, mover: LocalTransfer
) -> None:
    request = TransferRequest.of(PATH, source=here, destination=away)
    object.__setattr__(request, "effect", "sneak")
    with pytest.raises(Unpermitted, match="does not say what it does"):
        perform(ledger, operation(scan, request, away.place), mover)
    (denial,) = ledger.audit.denials(scan.id)
    assert denial.evidence["effect"] == "sneak"


def test_people_are_shown_what_was_permitted_and_what_was_not(
    ledger: Ledger, url: str, scan: Scan, here: Endpoint, away: Endpoint, mover: LocalTransfer, tmp_path: Path
) -> None:
    done = operation(scan, TransferRequest.of(PATH, source=here, destination=away), away.place)
    perform(ledger, done, mover)
    flag(ledger)
    for step in ("smuggle again", "smuggle again", "and again"):
        with pytest.raises(ExportControlled):
            perform(ledger, replace(done, step=step), mover)
    settings = tmp_path / "config.yml"
    settings.write_text(json.dumps({"ledger": {"url": url}}))
    environment = {"BEAMLINE_CONFIG": str(settings)}

    shown = CliRunner().invoke(beamline, ["show", PATH.name], env=environment, catch_exceptions=False).output
    told = CliRunner().invoke(beamline, ["show", PATH.name, "--json"], env=environment, catch_exceptions=False).output

    assert shown.count("smuggle again: scan") == 1
    assert shown.count("and again: scan") == 1
    document = json.loads(told)
    assert [each["step"] for each in document["denials"]] == ["smuggle again", "smuggle again", "and again"]
    (stage,) = document["stages"]
    assert stage["permitted"]["rules"] == ["the scan is not restricted"]
