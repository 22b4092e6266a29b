from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from retention_bench import Bench

from orchestration.ledger import Ledger


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        yield Bench.at(tmp_path, ledger)
