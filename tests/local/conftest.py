from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.config import Endpoint
from orchestration.local.transfer import LocalTransfer


def endpoint(name: str, folder: Path) -> Endpoint:
    folder.mkdir(parents=True, exist_ok=True)
    return Endpoint(root_path=f"/{name}", mount=folder).known_as(name)


@pytest.fixture
def here(tmp_path: Path) -> Endpoint:
    return endpoint("data", tmp_path / "data")


@pytest.fixture
def there(tmp_path: Path) -> Endpoint:
    return endpoint("backup", tmp_path / "backup")


@pytest.fixture
def mover(tmp_path: Path) -> LocalTransfer:
    return LocalTransfer(state=tmp_path / "state")
