from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.ledger import Ledger
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath

sys.path.insert(0, str(Path(__file__).parents[1] / "chaos"))  # sandbox_hall


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", lease_seconds=10.0) as ledger:
        yield ledger


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=RelativePath("p/scan.h5"))
