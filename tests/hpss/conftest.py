from __future__ import annotations

from pathlib import Path

import pytest
from hpss_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench.at(tmp_path)
