"""Until its embargo is over nothing of a scan is shown to everybody, and all else is done with it as ever."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from policy_ground import INDEX, PATH, RECORD, REQUESTS, Clock, Wire, kind_taken, operation

from orchestration.cli import beamline
from orchestration.errors import Embargoed
from orchestration.globus.search_entries import Entry, PublishRequest
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Request, Service, site_of
from orchestration.paths import RelativePath
from orchestration.policy import BeamlineRules, Effect, Rule
from orchestration.scicat.records import IngestRequest
from orchestration.times import clock as told

DAY = 24 * 3600.0
GROUP = "urn:globus:groups:id:6c2a3b0e-1d4f-11ee-9a77-0f1e2d3c4b5a"


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)  # 2027-01-15T08:00:00Z


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    with Ledger(url, clock=clock, rules={"bl832": BeamlineRules(embargo_days=30.0)}) as made:
        yield made


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=PATH)


def entry(*visible_to: str) -> PublishRequest:
    return PublishRequest(index=INDEX, entry=Entry(subject="globus://s", id="m", visible_to=visible_to, content={}))


OPEN: dict[str, Request] = {
    "publish": entry("public"),
    "publish for all who log in": entry(GROUP, "all_authenticated_users"),
    "catalogue as published": IngestRequest(identity="s/raw", record=replace(RECORD, is_published=True)),
}


def permitted(ledger: Ledger, wanted: Operation[Request]) -> tuple[Rule, ...]:
    """On which grounds it may be submitted now."""
    owner = Owner.here()
    ledger.operations.take(wanted, owner, service="test", redo=True)
    found = ledger.operations.permitted(wanted, owner, token="token", site=wanted.destination)
    assert found is not None
    ledger.operations.release(wanted.key, owner)
    return found.decision.rules


@pytest.mark.parametrize("name", OPEN)
def test_everybody_sees_it_when_the_embargo_is_over_and_no_moment_before(
    ledger: Ledger, scan: Scan, clock: Clock, name: str
) -> None:
    wanted = operation(scan, OPEN[name])
    clock.now += 30 * DAY - 1
    until = re.escape(told(scan.registered_at + 30 * DAY))
    with pytest.raises(Embargoed, match=rf"under embargo until {until} \(its beamline keeps scans for 30 days"):
        permitted(ledger, wanted)
    assert [denial.reason.partition(",")[0] for denial in ledger.audit.denials(scan.id)] == [
        f"everybody would see scan {PATH}"
    ]
    clock.now += 1
    assert Rule.EMBARGO_OVER in permitted(ledger, wanted)


def test_nothing_of_an_embargoed_scan_reaches_the_index(
    every: dict[str, Service[Any]], outside: Wire, ledger: Ledger, scan: Scan
) -> None:
    with pytest.raises(Embargoed):
        perform(ledger, operation(scan, OPEN["publish"]), every["globus_publish"])
    assert outside.calls == []


def test_an_embargo_that_begins_after_the_claim_stops_the_submission(
    every: dict[str, Service[Any]], ledger: Ledger, scan: Scan, clock: Clock
) -> None:
    clock.now += 31 * DAY
    wanted, owner = operation(scan, OPEN["publish"]), Owner.here()
    assert ledger.operations.take(wanted, owner, service="globus.publish", redo=True)
    ledger.scans.learn(scan.id, {"embargo_until": "2028-01-01"})
    with pytest.raises(Embargoed, match=told(datetime(2028, 1, 1, tzinfo=UTC).timestamp())):
        ledger.operations.permitted(wanted, owner, token="token")


def test_for_named_groups_it_is_published_and_catalogued(ledger: Ledger, scan: Scan) -> None:
    rules = permitted(ledger, operation(scan, entry(GROUP)))
    assert rules == (Rule.OPEN, Rule.NOT_FOR_EVERYBODY)
    record: Request = IngestRequest(identity="s/raw", record=RECORD)
    assert Rule.NOT_FOR_EVERYBODY in permitted(ledger, operation(scan, record))


def test_all_else_is_done_with_it(every: dict[str, Service[Any]], ledger: Ledger, scan: Scan) -> None:
    for name, service in every.items():
        request = REQUESTS[kind_taken(service)]
        if request.effect is not Effect.PUBLISH:
            wanted, owner = replace(operation(scan, request), step=f"by {name}"), Owner.here()
            ledger.operations.take(wanted, owner, service=service.name, redo=True)
            assert ledger.operations.permitted(wanted, owner, token="token", site=site_of(service))


@pytest.mark.parametrize(
    ("said", "until"),
    [
        (1_800_000_100, 1_800_000_100.0),
        (1_800_000_100.5, 1_800_000_100.5),
        ("2027-01-16", 1_800_057_600.0),
        ("2027-01-15T09:00:00", 1_800_003_600.0),
        ("2027-01-15T09:00:00+01:00", 1_800_000_000.0),
    ],
)
def test_what_is_said_of_the_scan_goes_before_the_rule(
    ledger: Ledger, scan: Scan, clock: Clock, said: Any, until: float
) -> None:
    ledger.scans.learn(scan.id, {"embargo_until": said})
    wanted = operation(scan, OPEN["publish"])
    clock.now = until - 0.5
    with pytest.raises(Embargoed, match="embargo_until is"):
        permitted(ledger, wanted)
    clock.now = until
    assert Rule.EMBARGO_OVER in permitted(ledger, wanted)


@pytest.mark.parametrize("said", ["soon", "", "31.3.2027", True, [], {"day": 1}])
def test_what_cannot_be_read_is_an_embargo_without_an_end(ledger: Ledger, scan: Scan, clock: Clock, said: Any) -> None:
    ledger.scans.learn(scan.id, {"embargo_until": said})
    clock.now += 1000 * 365 * DAY
    with pytest.raises(Embargoed, match="cannot be read"):
        permitted(ledger, operation(scan, OPEN["publish"]))


def test_a_folder_is_under_embargo_as_long_as_a_scan_in_it(ledger: Ledger, scan: Scan, clock: Clock) -> None:
    folder = ledger.scans.register(beamline="bl832", path=RelativePath("raw/ALS-00123"))
    beside = ledger.scans.register(beamline="bl832", path=RelativePath("raw/ALS-001234"))
    ledger.scans.learn(scan.id, {"embargo_until": "2028-01-01"})
    clock.now += 31 * DAY
    with pytest.raises(Embargoed):
        permitted(ledger, operation(folder, OPEN["publish"]))
    assert permitted(ledger, operation(beside, OPEN["publish"]))


def test_without_a_rule_there_is_no_embargo(ledger: Ledger) -> None:
    elsewhere = ledger.scans.register(beamline="bl733", path=PATH)
    assert Rule.NO_EMBARGO in permitted(ledger, operation(elsewhere, OPEN["publish"]))


def test_people_put_a_scan_under_embargo_and_lift_it(url: str, tmp_path: Path) -> None:
    settings = {
        "ledger": {"url": url},
        "globus": {"globus_endpoints": {"spot": {"mount": str(tmp_path)}}},
        "beamlines": {
            "bl832": {
                **dict.fromkeys(("acquisition", "server", "raw", "scratch"), "spot"),
                "sites": [],
                "disclosure": {"embargo_days": 30},
            }
        },
    }
    (tmp_path / "config.yml").write_text(json.dumps(settings))
    with Ledger(url) as ledger:
        scan = ledger.scans.register(beamline="bl832", path=PATH)

    def said(*words: str, code: int = 0, command: str = "embargo") -> str:
        environment = {"BEAMLINE_CONFIG": str(tmp_path / "config.yml")}
        result = CliRunner().invoke(beamline, [command, PATH.name, *words], env=environment)
        assert result.exit_code == code, result.output
        return result.output

    end = f"2100-01-01 00:00:00 {time.tzname[0]}"
    assert "is under embargo until" in said()
    assert "30 days" in said()
    assert "not changed without a reason" in said("--until", "2100-01-01", code=1)
    assert said("--until", "2100-01-01", "--why", "paper under review").endswith(f" {end}: paper under review.\n")
    assert json.loads(said("--json"))["embargo"] is True
    page = said(command="show")
    assert f"under embargo until {end}, not everybody may see it: paper under review\n" in page
    assert f"until {end}: still needed" in said("--why", "still needed", "--until", "2100-01-01", command="hold")
    assert re.search(rf"^held by .* until {re.escape(end)}: still needed$", said(command="show"), re.MULTILINE)
    said(command="release")
    assert "held by" not in said(command="show")
    assert "export-controlled" not in page
    with Ledger(url) as ledger:
        ledger.scans.register(beamline="bl832", path=PATH, export_controlled=True)
    assert "\nexport-controlled: stays at the beamline\n" in said(command="show")
    assert "has been over since" in said("--lift", "--why", "published")
    assert "under embargo" not in said(command="show")
    assert "exclude each other" in said("--lift", "--until", "2100-01-01", code=2)
    with Ledger(url) as ledger:
        facts = ledger.scans.get(scan.id).facts
    assert (facts["embargo_why"], bool(facts["embargo_by"])) == ("published", True)
