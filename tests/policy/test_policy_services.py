"""No service takes what the policy has not permitted, whichever it is and whoever adds the next one."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from policy_ground import (
    AWAY,
    CARRYING,
    HERE,
    NAMES,
    PATH,
    REQUESTS,
    SITES,
    STAYING,
    TAKING_AWAY,
    Wire,
    flagged,
    kind_taken,
    kinds_of_sites,
    operation,
)

import orchestration
from orchestration.errors import ExportControlled, Unpermitted
from orchestration.ledger import Ledger
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.service import Service, site_of
from orchestration.policy import Permitted, Rule, Subject, permit

ADAPTERS = ("globus", "nersc", "iri", "scicat", "local", "flows")
SUBJECT = Subject(scan="1", name="raw/scan.h5")


def test_each_kind_of_site_is_tried() -> None:
    assert set(SITES) == kinds_of_sites()


def test_each_adapter_of_the_source_is_among_those_that_are_tried(every: dict[str, Service[Any]]) -> None:
    tried = {type(service) for service in every.values()}
    known = set()
    for name in ADAPTERS:
        package = importlib.import_module(f"orchestration.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                if all(callable(getattr(kind, word, None)) for word in ("reserve", "find", "submit", "poll", "cancel")):
                    known.add(kind)
    guards = {kind for kind in known if kind.__module__ == "orchestration.flows.guarding"}  # they stand before others
    assert {kind for kind in known - guards if kind is not Service} == tried


@pytest.mark.parametrize("name", NAMES)
def test_what_nobody_permitted_is_not_submitted(
    every: dict[str, Service[Any]], outside: Wire, name: str, tmp_path: Path
) -> None:
    service = every[name]
    request = REQUESTS[kind_taken(service)]
    other = next(one for kind, one in REQUESTS.items() if kind is not kind_taken(service))
    true = permit(request, subject=SUBJECT, at=0.0, site=site_of(service))
    made_up = object.__new__(Permitted)
    vars(made_up).update(vars(true))
    forged: list[Any] = [
        request,
        SimpleNamespace(request=request, decision=true.decision),
        made_up,
        permit(other, subject=SUBJECT, at=0.0, site=AWAY),
    ]
    for each in forged:
        with pytest.raises(Unpermitted):
            service.submit(each, "token")
    assert outside.calls == []
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("jobs at")])
def test_a_job_that_was_permitted_for_another_site_is_not_submitted(
    every: dict[str, Service[Any]], outside: Wire, name: str
) -> None:
    elsewhere = permit(REQUESTS[kind_taken(every[name])], subject=SUBJECT, at=0.0, site=HERE.place)
    with pytest.raises(Unpermitted, match="permitted for here, not for"):
        every[name].submit(elsewhere, "token")
    assert outside.calls == []


@pytest.mark.parametrize("name", CARRYING)
def test_nothing_of_a_flagged_scan_is_asked_of_anybody_elsewhere(
    every: dict[str, Service[Any]], outside: Wire, ledger: Ledger, name: str
) -> None:
    service = every[name]
    request = REQUESTS[kind_taken(service)]
    with pytest.raises(ExportControlled, match="is export-controlled"):
        perform(ledger, operation(flagged(ledger), request), service)
    assert outside.calls == []


@pytest.mark.parametrize("name", CARRYING)
def test_what_a_caller_calls_the_beamline_does_not_open_the_way(
    every: dict[str, Service[Any]], outside: Wire, ledger: Ledger, name: str
) -> None:
    service = every[name]
    request = REQUESTS[kind_taken(service)]
    honestly = replace(HERE.place, name="the beamline, honestly")
    with pytest.raises(ExportControlled, match="is export-controlled"):
        perform(ledger, operation(flagged(ledger), request, honestly), service)
    assert list(ledger.operations.open()) == []
    assert outside.calls == []


@pytest.mark.parametrize("name", CARRYING)
def test_a_flag_that_is_set_after_the_claim_stops_the_submission(
    every: dict[str, Service[Any]], ledger: Ledger, name: str
) -> None:
    service, owner = every[name], Owner.here()
    scan = ledger.scans.register(beamline="bl832", path=PATH)
    wanted = operation(scan, REQUESTS[kind_taken(service)])
    assert ledger.operations.take(wanted, owner, service=service.name, redo=True)
    flagged(ledger)
    with pytest.raises(ExportControlled, match="is export-controlled"):
        ledger.operations.permitted(wanted, owner, token="token", site=site_of(service))
    assert ledger.operations.get(wanted.key).token is None
    (denial,) = ledger.audit.denials(scan.id)
    assert (denial.dataset, denial.evidence["service"]) == ("smuggle", service.name)


@pytest.mark.parametrize("name", sorted(TAKING_AWAY))
def test_what_a_flagged_scan_has_elsewhere_may_be_taken_away(every: dict[str, Service[Any]], name: str) -> None:
    request = REQUESTS[kind_taken(every[name])]
    secret = Subject(scan="1", name="raw/secret.h5", export_controlled=True)
    assert permit(request, subject=secret, at=0.0).decision.rules == (Rule.TAKEN_AWAY,)


@pytest.mark.parametrize("name", sorted(STAYING))
def test_what_a_flagged_scan_has_elsewhere_may_get_another_name_there(
    every: dict[str, Service[Any]], name: str
) -> None:
    request = REQUESTS[kind_taken(every[name])]
    secret = Subject(scan="1", name="raw/secret.h5", export_controlled=True)
    assert permit(request, subject=secret, at=0.0).decision.rules == (Rule.STAYS,)


def test_every_ledger_of_this_service_has_the_rules_of_its_settings() -> None:
    """One that is opened by its address alone knows of no embargo, and of no owners."""
    root = Path(orchestration.__file__).parent
    by_address = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        if "Ledger(" in (text := file.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Ledger"
    }
    # Trials of the doctor are of no scan; what looks into the ledger of a trial of this service asks for nothing.
    assert by_address == {"doctor/once.py", "sandbox/trials/world.py"}
