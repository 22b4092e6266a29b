"""What the policy answers is in the ledger: before anything is submitted, and for good."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from policy_ground import PATH, operation

from orchestration.cli import beamline
from orchestration.config import Endpoint
from orchestration.errors import ExportControlled, Unpermitted
from orchestration.ledger import Ledger
from orchestration.ledger.audit import Verdict
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.operation import OperationState
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.local.transfer import LocalTransfer
from orchestration.policy import Permitted, Zone
from orchestration.transfers import TransferRequest


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
