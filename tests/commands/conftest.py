"""One sandbox for all tests of the command line, with the deployments of the project, and one demo in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import PROJECT, CommandLine
from prefect.context import refresh_global_settings_context

from orchestration.sandbox.supervisor import Supervisor
from orchestration.sandbox.testing_supervisor import running_sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    directory = tmp_path_factory.mktemp("commands") / ".sandbox"
    with running_sandbox(directory, project_file=PROJECT / "config.yml") as supervisor:
        yield supervisor


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


@pytest.fixture(scope="session")
def summary(sandbox: Supervisor) -> dict[str, Any]:
    """The JSON object that ends a small demo."""
    line = CommandLine(sandbox.layout.root.parent, {})
    process = line.start("demo", "--size=64", "--angles=90", "--json", f"--state={sandbox.layout.root}")
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(output)
    return found
