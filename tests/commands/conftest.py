"""One sandbox for all tests of the command line, with the deployments of the project, and one demo in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from command_line import PROJECT, CommandLine
from prefect.context import refresh_global_settings_context

from orchestration.sandbox.supervisor import Supervisor
from orchestration.sandbox.testing_supervisor import running_sandbox


@pytest.fixture
def sandbox(once: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Supervisor:
    def make() -> AbstractContextManager[Supervisor]:
        directory = tmp_path_factory.mktemp("commands") / ".sandbox"
        return running_sandbox(directory, project_file=PROJECT / "config.yml")

    found: Supervisor = once("sandbox", make)
    return found


@pytest.fixture
def command(sandbox: Supervisor) -> Iterator[CommandLine]:
    yield CommandLine(sandbox.layout.root.parent, sandbox.environment)
    refresh_global_settings_context()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[CommandLine]:
    """In a directory with settings, a ledger of its own, and no server at all."""
    yield CommandLine(
        tmp_path,
        {
            "BEAMLINE_CONFIG": str(PROJECT / "config.yml"),
            "BEAMLINE_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.sqlite",
            "GLOBUS_CLIENT_ID": "nobody",
            "GLOBUS_CLIENT_SECRET": "nothing",
        },
    )
    refresh_global_settings_context()


@pytest.fixture
def summary(once: Callable[..., Any], sandbox: Supervisor) -> dict[str, Any]:
    """The JSON object that ends a small demo."""
    found: dict[str, Any] = once("summary", lambda: nullcontext(_summary(sandbox)))
    return found


def _summary(sandbox: Supervisor) -> dict[str, Any]:
    line = CommandLine(sandbox.layout.root.parent, {})
    process = line.start("demo", "--size=64", "--angles=90", "--json", f"--state={sandbox.layout.root}")
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(output)
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A sandbox takes long to start: what needs one is left to the long part of the tests, which starts one anyway."""
    for item in items:
        if Path(__file__).parent in item.path.parents and "sandbox" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
