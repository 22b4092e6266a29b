"""Every test runs without the credentials, settings and servers of the machine that it runs on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_OURS = ("BEAMLINE_", "GLOBUS_", "SCICAT_", "PREFECT_", "PATH_NERSC_")
_KEPT = {"BEAMLINE_TEST_POSTGRESQL_URL"}

for name in [name for name in os.environ if name.startswith(_OURS) and name not in _KEPT]:
    del os.environ[name]

# Before anything imports Prefect, which reads its settings then. No test may find, or leave, a profile of the user.
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own: a sandbox that runs in the project's folder, or a .env there, must not be found."""
    monkeypatch.chdir(tmp_path)
