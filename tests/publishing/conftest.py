from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from publishing_room import Bench, Shown, a_scan, bench, the_settings

from orchestration.config import ScicatSettings
from orchestration.flows.services import Services
from orchestration.ledger import Ledger
from orchestration.ledger.scan import Scan
from orchestration.sandbox.testing import RunningFacility, running_facility
from orchestration.sandbox.trials.nursery import Nursery


@pytest.fixture(scope="session")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacility]:
    with running_facility(tmp_path_factory.mktemp("facility")) as running:
        yield running


@pytest.fixture(scope="session")
def nursery(facility: RunningFacility, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Processes that publish, and may be killed."""
    here = Path(__file__).parent
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(here.parents[1]), str(here)])}
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    log = tmp_path_factory.mktemp("nursery") / "log"
    with Nursery({**kept, **variables, **facility.environment()}, ["publishing_room"], log=log) as nursery:
        yield nursery


@pytest.fixture
def index(facility: RunningFacility, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    """As good as new."""
    facility.client.reset()
    for name, value in facility.environment().items():
        monkeypatch.setenv(name, value)
    yield Shown(facility.client)
    facility.client.faults.clear()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", lease_seconds=5.0) as ledger:
        yield ledger


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return a_scan(ledger)


@pytest.fixture
def work(ledger: Ledger, facility: RunningFacility, index: Shown) -> Iterator[Bench]:
    environment = facility.environment()
    scicat = ScicatSettings(
        api_url=environment["SCICAT_API_URL"],
        pid_prefix="20.500.12345",
        service_group=environment["SCICAT_INGEST_USER"],
    )
    settings = the_settings(scicat)
    with closing(Services(settings)) as services:
        yield bench(ledger, settings, services)
