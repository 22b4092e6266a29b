"""One sandbox for all of these tests: a real Prefect server, a real worker, and small flows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration.sandbox.supervisor import Supervisor
from orchestration.sandbox.testing_supervisor import running_sandbox

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


@pytest.fixture(autouse=True)
def no_environment_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that somebody runs in the checkout is none of these tests' business."""
    empty = tmp_path_factory.mktemp("environment") / "no.env"
    empty.touch()
    monkeypatch.setenv("BEAMLINE_ENV_FILE", str(empty))


@pytest.fixture
def prefect_sandbox(once: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Supervisor:
    def make() -> AbstractContextManager[Supervisor]:
        directory = tmp_path_factory.mktemp("prefect") / "sandbox"
        return running_sandbox(directory, deployments=[HERE / "tiny.yaml"], search=[HERE])

    found: Supervisor = once("sandbox", make)
    return found


@pytest.fixture
def server(prefect_sandbox: Supervisor) -> Iterator[str]:
    """Address of the API of the sandbox's Prefect server, which this process uses while the test runs."""
    url = prefect_sandbox.environment["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: url}):
        yield url
