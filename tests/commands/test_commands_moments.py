"""Programs are told every moment in the same form, whatever they ask: ISO 8601, in UTC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from command_line import CommandLine

from orchestration.commands.retention import _line
from orchestration.ledger import Ledger
from orchestration.ledger.audit import AuditRecord, Verdict
from orchestration.ledger.copy import RAW, Role
from orchestration.ledger.inventory import UnknownFolder
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.times import iso

MOMENT = re.compile(r".+_at|at|since|until|due|delete_after|oldest|newest")
PLACES = {"lies_at", "results_at"}
FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")

COMMANDS = (
    ("hold", "tooth", "--why", "a paper", "--until", "2099-01-01"),
    ("show", "tooth"),
    ("scans",),
    ("retention", "explain", "tooth"),
    ("release", "tooth"),
    ("copies",),
    ("batches",),
    ("batches", "ba7c4"),
    ("embargo", "tooth", "--until", "2099-01-01", "--why", "a patent"),
)


def moments(told: Any, name: str = "") -> Iterator[Any]:
    if isinstance(told, dict):
        for each, value in told.items():
            yield from moments(value, each)
    elif isinstance(told, list):
        for each in told:
            yield from moments(each, name)
    elif MOMENT.fullmatch(name) and name not in PLACES and told is not None:
        yield told


@pytest.fixture
def filled(alone: CommandLine) -> CommandLine:
    with Ledger(alone.environment["BEAMLINE_LEDGER_URL"]) as ledger:
        scan = ledger.scans.register(beamline="bl832", path=RelativePath("raw/p/tooth.h5"))
        ledger.runs.begin(run_id="1", flow="new_files_flow", parameters={}, owner=Owner.here(), scan_id=scan.id)
        ledger.copies.record(
            scan_id=scan.id,
            dataset=RAW,
            endpoint="data832",
            path=scan.path,
            role=Role.REPLICA,
            manifest=[FileEvidence(path="", size=1, checksum="sha256:1")],
            method="test",
            verified_by=None,
            delete_after=ledger.now() + 1e6,
        )
        about = {"flow": "new_files_flow", "beamline": "bl832", "name": "tooth"}
        ledger.batches.begin(id="ba7c4", **about, parameters={}, run_id="1", items={scan.path.text: {}})
        ledger.inventory.begin("data832")
        stranger = UnknownFolder(
            endpoint="data832", folder="a", files=1, size=5, oldest=0.0, newest=1.0, example="x", seen_at=2.0
        )
        ledger.inventory.compared(ledger.inventory.begin_folders("data832"), "a", stranger)
    return alone


def test_every_command_tells_moments_alike(filled: CommandLine) -> None:
    for command in COMMANDS:
        found = [*moments(filled.json(*command))]
        assert found, command
        assert [each for each in found if not FORM.fullmatch(str(each))] == [], command


def test_so_are_those_of_the_evidence_for_a_deletion() -> None:
    witness: Document = {"endpoint": "nersc832", "verified_at": 1.5, "looked_at": 2}
    record = AuditRecord(
        id=1,
        at=3.0,
        scan_id="s",
        run_id=None,
        dataset=RAW,
        endpoint="data832",
        path="raw/p/tooth.h5",
        generation=1,
        verdict=Verdict.PROVED,
        reason="",
        evidence={"witnesses": [witness], "copy": {"size": 7}},
    )
    told = _line(record)
    assert sorted(moments(told)) == [iso(1.5), iso(2), iso(3.0)]
    assert told["evidence"] == {
        "witnesses": [{"endpoint": "nersc832", "verified_at": iso(1.5), "looked_at": iso(2)}],
        "copy": {"size": 7},
    }


def test_moments_sort_as_they_come() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000+00:00"
    assert iso(None) is None
    assert str(iso(9.9)) < str(iso(10)) < str(iso(datetime(2026, 11, 29, tzinfo=UTC).timestamp()))
