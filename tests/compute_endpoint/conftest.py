"""The daemon, where it is installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "BEAMLINE_TEST_COMPUTE_ENDPOINT"


@pytest.fixture(scope="session")
def daemon_venv() -> Path:
    """The environment that scripts/install_compute_endpoint.sh made."""
    directory = os.environ.get(VARIABLE, "")
    if not (Path(directory) / "bin" / "globus-compute-endpoint").exists():
        pytest.skip(f"no daemon in {VARIABLE}={directory!r}: scripts/install_compute_endpoint.sh makes one")
    return Path(directory).absolute()
