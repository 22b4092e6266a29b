from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from history_world import World
from prefect.settings import PREFECT_API_URL, temporary_settings


@pytest.fixture(scope="module", autouse=True)
def prefect_is_named() -> Iterator[None]:
    """It is never asked."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path / "world")
    yield found
    found.close()
