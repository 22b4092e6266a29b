from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from policy_ground import Wire, environment, every_service, settings, wire
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration.flows.services import Services
from orchestration.ledger import Ledger
from orchestration.ledger.service import Service


@pytest.fixture
def outside() -> Iterator[Wire]:
    with wire() as made:
        yield made


@pytest.fixture
def every(outside: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Service[Any]]]:
    for name, value in environment(outside, tmp_path).items():
        monkeypatch.setenv(name, value)
    chosen = settings(outside)
    with closing(Services(chosen)) as services, temporary_settings({PREFECT_API_URL: f"{outside.url}/api"}):
        yield every_service(chosen, services)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.sqlite"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger(url) as made:
        yield made
